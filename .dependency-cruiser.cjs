/**
 * Who may import whom; type imports count. The picture is in docs/architecture.md.
 *
 *   protocol ← kinds ← dispatcher/core ← store ← engine ← server ← dispatcher/{startup,main,embed}
 *   protocol ← kinds ← agent/drivers ← agent/keeper ← agent/executors ← agent
 *   protocol ← client ← nodes, dispatcher/cli
 */
const room = (name, path, may) => ({
	name,
	severity: 'error',
	comment: `${path} may import only: itself${may.map((to) => `, ${to}`).join('')}, packages.`,
	from: { path: `^${path}` },
	to: {
		path: '^(protocol|kinds|client|dispatcher|agent|nodes|credentials|scripts|test|examples)/',
		pathNot: [`^${path}`, ...may.map((to) => `^${to}`)],
	},
});

module.exports = {
	forbidden: [
		room('protocol', 'protocol/', []),
		room('kinds', 'kinds/', ['protocol/']),
		room('client', 'client/', ['protocol/']),
		room('core', 'dispatcher/core/', ['protocol/', 'kinds/']),
		room('store', 'dispatcher/store/', ['protocol/', 'kinds/', 'dispatcher/core/']),
		room('engine', 'dispatcher/engine/', ['protocol/', 'kinds/', 'dispatcher/(core|store)/']),
		room('server', 'dispatcher/server/', [
			'protocol/',
			'kinds/',
			'dispatcher/(core|store|engine)/',
			'dispatcher/package.json',
		]),
		room('backup', 'dispatcher/backup/', ['protocol/', 'dispatcher/store/']),
		room('cli', 'dispatcher/cli/', [
			'protocol/',
			'client/',
			'kinds/',
			'dispatcher/config',
			'dispatcher/package.json',
		]),
		room('drivers', 'agent/drivers/', ['protocol/', 'kinds/', 'agent/clock']),
		room('keeper', 'agent/keeper/', [
			'protocol/',
			'agent/drivers/',
			'agent/(clock|echo|spool|tail)',
		]),
		room('executors', 'agent/executors/', [
			'protocol/',
			'kinds/',
			'agent/(drivers|keeper)/',
			'agent/(clock|spool|tail)',
		]),
		room('agent', 'agent/', ['protocol/', 'kinds/']),
		room('dispatcher', 'dispatcher/', ['protocol/', 'kinds/', 'client/']),
		room('nodes', '(nodes|credentials)/', ['protocol/', 'client/']),
		{
			name: 'plain-protocol',
			severity: 'error',
			comment: 'What n8n loads is plain constants and types: no schemas, no node: modules.',
			from: { path: '^(nodes|credentials|client)/' },
			to: { path: '^(protocol/(schemas|frames|poll)|kinds)' },
		},
		{
			name: 'nodes-know-only-n8n-workflow',
			severity: 'error',
			comment: 'n8n installs the package without dependencies.',
			from: {
				path: '^(nodes|credentials|client|protocol/[^/]+$)',
				pathNot: 'nodes/shared/embedded|protocol/(frames|poll)',
			},
			to: { dependencyTypes: ['npm', 'npm-dev', 'npm-peer', 'core'], pathNot: 'n8n-workflow' },
		},
		{
			name: 'no-circles',
			severity: 'error',
			from: {},
			to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
		},
		{
			name: 'no-orphans',
			severity: 'error',
			from: { orphan: true, pathNot: '(package.json$|^credentials/)' },
			to: {},
		},
	],
	options: {
		tsPreCompilationDeps: true,
		tsConfig: { fileName: 'tsconfig.json' },
		doNotFollow: { path: 'node_modules' },
		exclude: { path: '(^|/)dist/' },
	},
};
