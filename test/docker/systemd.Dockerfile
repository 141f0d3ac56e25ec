# A small machine that is run by systemd.
FROM debian:bookworm-slim
RUN apt-get update \
	&& apt-get install -y --no-install-recommends systemd systemd-sysv dbus libstdc++6 procps \
	&& rm -rf /var/lib/apt/lists/*
CMD ["/sbin/init"]
