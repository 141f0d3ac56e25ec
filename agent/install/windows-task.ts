/**
 * The task for Windows' own Task Scheduler. A Node program cannot be a Windows service without a wrapper
 * that somebody would have to trust; a task needs none, and restarts as well.
 */
import type { InstallOrder } from './plan';
import { escapeXml } from './xml';

export const taskName = 'Robot Fleet Agent';

/** "Local Service": hardly any rights, no password. */
const localService = 'S-1-5-19';

export function taskFile(order: InstallOrder): string {
	const { scope, program, places, data, person } = order;
	const [node, script] = program;
	const system = scope === 'system';
	const trigger = system ? 'BootTrigger' : 'LogonTrigger';
	const command = [script, '--config', places.settings].map(word).join(' ');
	const whose = !system && person ? [`\t\t\t<UserId>${escapeXml(person)}</UserId>`] : [];
	return [
		'<?xml version="1.0" encoding="UTF-16"?>',
		'<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">',
		'\t<RegistrationInfo>',
		'\t\t<Description>Connects this machine to a Robot Fleet service.</Description>',
		'\t</RegistrationInfo>',
		'\t<Triggers>',
		`\t\t<${trigger}>`,
		'\t\t\t<Enabled>true</Enabled>',
		// Without it, the trigger is for whoever logs on, and only an administrator may make such a one.
		...whose,
		`\t\t</${trigger}>`,
		// Checked every five minutes for ever, and not only after the next start: whatever ended it, it comes back
		// (RestartOnFailure is for a task that could not be started). One that runs stays the only one.
		'\t\t<TimeTrigger>',
		'\t\t\t<Repetition><Interval>PT5M</Interval><StopAtDurationEnd>false</StopAtDurationEnd></Repetition>',
		'\t\t\t<StartBoundary>2024-01-01T00:00:00</StartBoundary>',
		'\t\t\t<Enabled>true</Enabled>',
		'\t\t</TimeTrigger>',
		'\t</Triggers>',
		'\t<Principals>',
		'\t\t<Principal id="Author">',
		...(system
			? [`\t\t\t<UserId>${localService}</UserId>`]
			: [...whose, '\t\t\t<LogonType>InteractiveToken</LogonType>']),
		'\t\t\t<RunLevel>LeastPrivilege</RunLevel>',
		'\t\t</Principal>',
		'\t</Principals>',
		'\t<Settings>',
		'\t\t<MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>',
		'\t\t<DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>',
		'\t\t<StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>',
		'\t\t<AllowHardTerminate>true</AllowHardTerminate>',
		'\t\t<StartWhenAvailable>true</StartWhenAvailable>',
		'\t\t<IdleSettings><StopOnIdleEnd>false</StopOnIdleEnd></IdleSettings>',
		// The default is three days, and below-normal priority.
		'\t\t<ExecutionTimeLimit>PT0S</ExecutionTimeLimit>',
		'\t\t<Priority>5</Priority>',
		'\t\t<RestartOnFailure><Interval>PT1M</Interval><Count>255</Count></RestartOnFailure>',
		'\t</Settings>',
		'\t<Actions Context="Author">',
		'\t\t<Exec>',
		`\t\t\t<Command>${escapeXml(node)}</Command>`,
		`\t\t\t<Arguments>${escapeXml(command)}</Arguments>`,
		`\t\t\t<WorkingDirectory>${escapeXml(data)}</WorkingDirectory>`,
		'\t\t</Exec>',
		'\t</Actions>',
		'</Task>',
		'',
	].join('\r\n');
}

/** A Windows path contains no quote; a backslash before the closing one would escape it. */
function word(text: string): string {
	return /\s/.test(text) ? `"${text.replace(/\\+$/, '$&$&')}"` : text;
}
