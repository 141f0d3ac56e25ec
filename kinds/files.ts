/**
 * What a job brings along and takes home: `spec.files` is placed in its workspace before it starts,
 * `spec.collect` names by pattern what is kept of it after the end. A path is relative to the workspace,
 * written with `/`, and never leads out of it.
 *
 * A pattern is a path in which `*` stands for anything within one name, `?` for one character and a whole
 * name `**` for any number of folders. Names that begin with a dot are names like any other. Matching costs
 * no more than pattern times path, whatever somebody writes.
 */
import { Type, type Static } from 'typebox';
import { limits, Problem } from '../protocol';

const path = (description: string, examples: string[]) =>
	Type.String({ description, examples, minLength: 1, maxLength: limits.maxPathBytes });

export const placedFiles = Type.Array(
	Type.Object(
		{
			file: Type.String({
				description: 'Id of a file that was sent to the service: POST /files.',
				minLength: 1,
				maxLength: limits.maxIdBytes,
				pattern: '^[A-Za-z0-9._:@-]+$',
			}),
			path: path('Where it is placed in the workspace of the job.', ['conf/app.json']),
			mode: Type.Optional(
				Type.String({
					description: 'Its permissions, octal. Default 0644.',
					pattern: '^0?[0-7]{3}$',
					examples: ['0755'],
				}),
			),
		},
		{ additionalProperties: false },
	),
	{
		description:
			'Files placed before the job starts. With them, or with collect, the job has a folder of its own: its cwd unless that is set, and ROBOT_FLEET_WORKSPACE.',
		maxItems: limits.maxJobFiles,
	},
);
export type PlacedFile = Static<typeof placedFiles>[number];

export const collectPatterns = Type.Array(
	path('A path in the workspace; * ? and ** are wildcards.', ['report/**/*.html']),
	{
		description:
			'What is kept of the workspace after the job has ended, however it ended. See GET /files?job=.',
		maxItems: limits.maxCollectPatterns,
	},
);

/** What a spec of any kind may ask for. */
export interface FileWishes {
	files?: PlacedFile[];
	collect?: string[];
}

/** Whether the job has a workspace of its own. */
export function needsWorkspace({ files, collect }: FileWishes): boolean {
	return files !== undefined || collect !== undefined;
}

export const modeOf = ({ mode = '0644' }: Pick<PlacedFile, 'mode'>): number =>
	Number.parseInt(mode, 8);

/** Why a path is not one inside a workspace, as the end of a sentence. */
export function pathMistake(path: string): string | undefined {
	if (path === '') return 'is empty';
	if (Buffer.byteLength(path) > limits.maxPathBytes) {
		return `is longer than ${limits.maxPathBytes} bytes`;
	}
	if (/[\u0000-\u001f\u007f]/.test(path)) return 'must not hold control characters';
	if (path.includes('\\')) return 'must be written with /, not with \\';
	if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'must be relative to the workspace';
	for (const name of path.split('/')) {
		if (name === '' || name === '.') return 'must be written without // and ./, and not end with /';
		if (name === '..') return 'must not lead out of the workspace';
		if (Buffer.byteLength(name) > 255) return 'holds a name longer than 255 bytes';
	}
	return undefined;
}

/** What is wrong with the wishes of a spec that has their shape. */
export function wishMistake({ files = [], collect = [] }: FileWishes): Problem | undefined {
	const places = new Set<string>();
	for (const [i, { path }] of files.entries()) {
		const at = `spec.files[${i}].path`;
		const mistake = pathMistake(path);
		if (mistake !== undefined) return new Problem('bad-field', { path: at, reason: mistake });
		if (places.has(path)) {
			return new Problem('bad-field', { path: at, reason: 'is the place of another file as well' });
		}
		places.add(path);
	}
	for (const [i, { path }] of files.entries()) {
		const names = path.split('/');
		for (let depth = 1; depth < names.length; depth += 1) {
			if (!places.has(names.slice(0, depth).join('/'))) continue;
			const reason = 'lies in a folder that is the place of another file';
			return new Problem('bad-field', { path: `spec.files[${i}].path`, reason });
		}
	}
	for (const [i, pattern] of collect.entries()) {
		const mistake =
			pathMistake(pattern) ??
			(/\*\*/.test(pattern.replace(/(^|\/)\*\*(?=\/|$)/g, '$1'))
				? 'holds ** next to other characters of a name; it must stand alone between slashes'
				: undefined);
		if (mistake !== undefined) {
			return new Problem('bad-field', { path: `spec.collect[${i}]`, reason: mistake });
		}
	}
	return undefined;
}

/** Whether the pattern finds this path. */
export function patternFinds(pattern: string, path: string): boolean {
	return fits(pattern.split('/'), path.split('/'), (part) => part === '**', nameFits);
}

/** Whether anything in this folder, or below it, could be found. */
export function patternEnters(pattern: string, folder: string): boolean {
	const parts = pattern.split('/');
	for (const [i, name] of folder.split('/').entries()) {
		const part = parts[i];
		if (part === '**') return true;
		// The last part is the file itself.
		if (part === undefined || i === parts.length - 1 || !nameFits(part, name)) return false;
	}
	return true;
}

/** Whether the pattern can find one path only. */
export function isPlainPath(pattern: string): boolean {
	return !/[*?]/.test(pattern);
}

function nameFits(part: string, name: string): boolean {
	return fits(
		[...part],
		[...name],
		(one) => one === '*',
		(one, two) => one === '?' || one === two,
	);
}

/**
 * One star after the other takes as little as it can; only the last one ever takes more, since an earlier
 * one that took more would gain nothing.
 */
function fits<P, I>(
	pattern: readonly P[],
	items: readonly I[],
	isStar: (part: P) => boolean,
	same: (part: P, item: I) => boolean,
): boolean {
	let at = 0;
	let star = -1;
	let taken = 0;
	for (let i = 0; i < items.length;) {
		const part = pattern[at];
		if (at < pattern.length && isStar(part!)) {
			star = at++;
			taken = i;
		} else if (at < pattern.length && same(part!, items[i]!)) {
			at += 1;
			i += 1;
		} else if (star >= 0) {
			at = star + 1;
			i = ++taken;
		} else return false;
	}
	while (at < pattern.length && isStar(pattern[at]!)) at += 1;
	return at === pattern.length;
}
