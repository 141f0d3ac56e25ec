/**
 * A real Chromium, and pictures of what it showed. The machine's own browser is preferred; where
 * there is none, the one that an npm package carries.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import packed from '@sparticuz/chromium';
import { type Browser, chromium, type Page } from 'playwright-core';

const root = join(__dirname, '../..');
const programs = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const macPrograms = [
	'/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
	'/Applications/Chromium.app/Contents/MacOS/Chromium',
];
const args = [
	'--no-sandbox',
	'--disable-gpu',
	'--disable-quic',
	'--no-first-run',
	'--disable-background-networking',
	'--disable-component-update',
	'--disable-sync',
];

export async function launchBrowser(): Promise<Browser> {
	const executablePath = findBrowser() ?? (await packed.executablePath());
	// A page that a proxy setting of this machine answers is not the page under test.
	return await chromium.launch({ executablePath, args: [...args, '--no-proxy-server'] });
}

function findBrowser(): string | undefined {
	const folders = (process.env.PATH ?? '').split(delimiter);
	const onPath = programs.flatMap((name) => folders.map((folder) => join(folder, name)));
	return [process.env.ROBOT_FLEET_BROWSER ?? '', ...onPath, ...macPrograms].find(
		(file) => file !== '' && existsSync(file),
	);
}

/** Pictures in a temporary folder, which stays only when a test failed. */
export class Pictures {
	readonly folder = mkdtempSync(join(tmpdir(), 'robot-fleet-pictures-'));
	#failed = false;

	/** @param name of the file; with UPDATE_SCREENSHOTS=1 those named for the docs go there too */
	async take(page: Page, name: string, forDocs = false): Promise<string> {
		const file = join(this.folder, `${name}.png`);
		await page.screenshot({ path: file, animations: 'disabled' });
		if (forDocs && process.env.UPDATE_SCREENSHOTS === '1') {
			const images = join(root, 'docs/images');
			mkdirSync(images, { recursive: true });
			copyFileSync(file, join(images, `${name}.png`));
		}
		return file;
	}

	/** Runs the body of a test; if it fails, the error says where the picture of that moment is. */
	async ofFailure(page: Page, name: string, body: () => Promise<void>): Promise<void> {
		try {
			await body();
		} catch (error) {
			this.#failed = true;
			const file = await this.take(page, `failed-${name.replace(/\W+/g, '-')}`).catch(String);
			if (error instanceof Error) error.message += `\n\nWhat the browser showed: ${file}`;
			throw error;
		}
	}

	tidyUp(): void {
		if (!this.#failed) rmSync(this.folder, { recursive: true, force: true });
	}
}
