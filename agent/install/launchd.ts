/** The property list for launchd. */
import { posix } from 'node:path';
import type { InstallOrder } from './plan';
import { escapeXml } from './xml';

export const launchdLabel = 'dev.robot-fleet.agent';

/** After this long, launchd kills an agent that was told to end. */
export const exitTimeOutS = ({ stopGraceMs }: InstallOrder): number =>
	Math.ceil(stopGraceMs / 1_000) + 30;

/** The same, read from a file written earlier. */
export function exitTimeOutIn(file = ''): number | undefined {
	const [, seconds] = /<key>ExitTimeOut<\/key>\s*<integer>(\d+)</.exec(file) ?? [];
	return seconds === undefined ? undefined : Number(seconds);
}

export function launchdFile(order: InstallOrder): string {
	const { scope, account, program, places, data } = order;
	const entries: [string, string][] = [
		['Label', text(launchdLabel)],
		['ProgramArguments', array([...program, '--config', places.settings])],
		['WorkingDirectory', text(data)],
		// launchd gives it four system folders; what people install is elsewhere, and jobs should find it.
		[
			'EnvironmentVariables',
			`<dict><key>PATH</key>${text('/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin')}</dict>`,
		],
		['RunAtLoad', '<true/>'],
		// Asked to stop (exit code 0), it stays down; whatever else ended it, it comes back.
		['KeepAlive', '<dict><key>SuccessfulExit</key><false/></dict>'],
		// Otherwise launchd would end running jobs along with the agent.
		['AbandonProcessGroup', '<true/>'],
		['ExitTimeOut', `<integer>${exitTimeOutS(order)}</integer>`],
		['StandardErrorPath', text(posix.join(data, 'agent.log'))],
	];
	if (scope === 'system' && account !== undefined) entries.push(['UserName', text(account.name)]);
	return [
		'<?xml version="1.0" encoding="UTF-8"?>',
		'<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">',
		'<plist version="1.0">',
		'<dict>',
		...entries.flatMap(([key, value]) => [`\t<key>${key}</key>`, `\t${value}`]),
		'</dict>',
		'</plist>',
		'',
	].join('\n');
}

function array(words: readonly string[]): string {
	return `<array>${words.map(text).join('')}</array>`;
}

function text(value: string): string {
	return `<string>${escapeXml(value)}</string>`;
}
