/**
 * The pages that are made from tables: docs/states.md, problems.md, protocol.md and api.md.
 * Without `--write` it only says whether they are up to date, and exits with 1 if they are not.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as esbuild from 'esbuild';
import { root } from './steps.mjs';

const bundle = join(root, 'node_modules/.cache/robot-fleet/protocol.mjs');
await esbuild.build({
	stdin: {
		contents: `export * from './protocol'; export * as schemas from './protocol/schemas';`,
		resolveDir: root,
		loader: 'ts',
	},
	bundle: true,
	platform: 'node',
	format: 'esm',
	outfile: bundle,
	logLevel: 'error',
});
const protocol = await import(`${pathToFileURL(bundle).href}?${process.pid}`);
rmSync(bundle);

const made = '<!-- Made from protocol/ by `npm run docs`; edit the tables there. -->\n';

function states() {
	const arrows = Object.entries(protocol.moves).flatMap(([from, to]) =>
		to.map((/** @type {string} */ next) => `    ${from} --> ${next}`),
	);
	const causes = Object.entries(protocol.causes).map(([name, text]) => `| \`${name}\` | ${text} |`);
	return `# States of a job\n\n${made}\n\`\`\`mermaid\nstateDiagram-v2\n    [*] --> pending\n    [*] --> queued\n${arrows.join('\n')}\n\`\`\`\n
| From | To |
|---|---|
${Object.entries(protocol.moves)
	.map(
		([from, to]) =>
			`| \`${from}\` | ${to.length === 0 ? 'nothing: final' : to.map((/** @type {string} */ s) => `\`${s}\``).join(', ')} |`,
	)
	.join('\n')}

## Causes

Why a job ended the way it did. The list is closed.

| Cause | Meaning |
|---|---|
${causes.join('\n')}
`;
}

function problems() {
	const rows = Object.entries(protocol.problems).map(
		([code, { status, retry, text }]) =>
			`| \`${code}\` | ${status} | ${retry ? 'yes' : 'no'} | ${text.replaceAll('|', '\\|')} |`,
	);
	return `# Problems\n\n${made}\nEvery refusal of the service is \`{"error": {"code", "text", "retry", "details"}}\`. \`retry\` says whether the same
request is worth another try as it is. Names in braces are filled from \`details\`.

| Code | Status | Retry | Text |
|---|---|---|---|
${rows.join('\n')}
`;
}

function api() {
	const rows = Object.values(protocol.calls).map(
		({ method, path, scope, summary }) =>
			`| ${method} | \`${path.startsWith('//') ? path.slice(1) : protocol.paths.api + path}\` | ${scope ?? 'none'} | ${summary} |`,
	);
	return `# HTTP API\n\n${made}\nShapes of bodies and answers: \`GET ${protocol.paths.api}/openapi.json\`. Every call needs \`Authorization: Bearer KEY\` with the
scope named, except those with none. The scope \`admin\` includes all others.

| Method | Path | Scope | |
|---|---|---|---|
${rows.join('\n')}
`;
}

function wire() {
	const headOf = (/** @type {string} */ file) => {
		const source = readFileSync(join(root, file), 'utf8');
		return (
			/\/\*\*\n([\s\S]*?)\*\//
				.exec(source)?.[1]
				?.replaceAll(/^ \* ?/gm, '')
				.trimEnd() ?? ''
		);
	};
	const intro = headOf('protocol/messages.ts');
	const messages = Object.entries(protocol.schemas.robots.robotMessages).map(
		([name, schema]) =>
			`### \`${name}\`\n\n\`\`\`json\n${JSON.stringify(schema, null, 2)}\n\`\`\`\n`,
	);
	return `# The robots’ protocol\n\n${made}\n${intro}\n\nOne WebSocket at \`${protocol.paths.robotLink}\`, protocol version ${protocol.limits.protocolVersion}. Enrollment: \`POST ${protocol.paths.robotEnrol}\`.

## Where no WebSocket comes through

\`POST ${protocol.paths.robotPoll}\`, at the same doors.

${headOf('protocol/poll.ts')}

## Output frames

${headOf('protocol/frames.ts')}

## Messages of a robot, as JSON Schema

The payload of each envelope.

${messages.join('\n')}`;
}

const pages = {
	'states.md': states(),
	'problems.md': problems(),
	'api.md': api(),
	'protocol.md': wire(),
};
const write = process.argv.includes('--write');
mkdirSync(join(root, 'docs'), { recursive: true });
for (const [name, text] of Object.entries(pages)) {
	const file = join(root, 'docs', name);
	let now = '';
	try {
		now = readFileSync(file, 'utf8');
	} catch {
		// It is not there yet: not up to date either.
	}
	if (now === text) continue;
	if (write) {
		writeFileSync(file, text);
		console.log(`docs/${name} is true again`);
	} else {
		console.error(`docs/${name} is not true any more; run: npm run docs`);
		process.exitCode = 1;
	}
}
