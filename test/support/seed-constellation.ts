/** The example of the seed's constellation file, to the byte. */
export const seedConstellation = `{
  "constellation_id": "my_constellation",
  "heartbeat_interval": 30.0,
  "reconnect_delay": 5.0,
  "max_concurrent_tasks": 8,
  "devices": [
    {
      "device_id": "windows_workstation",
      "server_url": "ws://192.168.1.100:8765",
      "local_client_ids": ["client_1", "client_2"],
      "capabilities": ["screenshot", "text_input", "app_control"],
      "metadata": {
        "os": "Windows",
        "location": "Office"
      },
      "auto_connect": true
    },
    {
      "device_id": "linux_server", 
      "server_url": "ws://192.168.1.101:8765",
      "local_client_ids": ["server_client"],
      "capabilities": ["terminal", "file_ops", "automation"],
      "metadata": {
        "os": "Linux",
        "role": "Server"
      },
      "auto_connect": true
    }
  ]
}
`;
