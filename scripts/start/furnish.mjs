/**
 * What a person finds in the editor: an account, a credential, the workflows of examples/. Safe to
 * repeat: what is there is left alone, and what the person changed stays theirs.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { N8nRefusal } from '../n8n/editorApi.mjs';
import { hash } from './build.mjs';
import { readJson, writeJson } from './state.mjs';

const credentialType = 'robotFleetApi';
/** Stand for the real ones in examples/. */
const credentialId = 'robotFleetThisN8n';
const credentialName = 'Robot Fleet (this n8n)';
const n8nUrl = 'http://localhost:5678';

/** @typedef {import('../n8n/instance.mjs').N8n} N8n */
/** @typedef {{id: string, versionId: string, hash: string}} Note of a workflow we made */
/** @typedef {{id: string, name: string}} Named */

/**
 * @param {N8n} n8n
 * @param {{email: string, password: string}} owner
 * @returns {Promise<boolean>} false if the person has changed e-mail or password since
 */
export async function signIn(n8n, owner) {
	if (await n8n.needsOwner()) {
		await n8n.setupOwner(owner);
		return true;
	}
	try {
		await n8n.login(owner);
		return true;
	} catch (error) {
		if (error instanceof N8nRefusal && error.status === 401) return false;
		throw error;
	}
}

/** @param {N8n} n8n @returns {Promise<Named>} */
export async function ensureCredential(n8n) {
	const all = /** @type {Array<Named & {type: string}>} */ (await n8n.rest('GET', '/credentials'));
	const ours = all.filter(({ type }) => type === credentialType);
	const found = ours.find(({ name }) => name === credentialName);
	if (found) return { id: found.id, name: found.name };
	const data = { connection: 'embedded' };
	return await n8n.createCredential({ name: credentialName, type: credentialType, data });
}

/**
 * The "Test" of the credential: its first use starts the service.
 *
 * @param {N8n} n8n
 * @param {Named} credential
 */
export async function testCredential(n8n, { id, name }) {
	const { data } = await n8n.rest('GET', `/credentials/${id}?includeData=true`);
	const credentials = { id, name, type: credentialType, data };
	const { status, message } = await n8n.rest('POST', '/credentials/test', { credentials });
	if (status !== 'OK') throw new Error(`n8n cannot use the Robot Fleet service. ${message}`);
}

/**
 * @param {N8n} n8n
 * @param {{folder: string, noteFile: string, credential: Named}} options
 */
export async function ensureExamples(n8n, { folder, noteFile, credential }) {
	const notes = /** @type {Record<string, Note>} */ ((await readJson(noteFile)) ?? {});
	const there = /** @type {Array<Named & {versionId: string}>} */ (
		await n8n.rest('GET', '/workflows')
	);
	const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort();
	for (const file of files) {
		const text = (await readFile(join(folder, file), 'utf8'))
			.replaceAll(credentialId, credential.id)
			.replaceAll(n8nUrl, n8n.baseUrl);
		const { id: _id, active: _active, ...workflow } = JSON.parse(text);
		notes[file] = await ensureExample(n8n, {
			workflow,
			hash: hash(text),
			note: notes[file],
			there,
		});
		await writeJson(noteFile, notes);
	}
	return Object.values(notes);
}

/**
 * @param {N8n} n8n
 * @param {{workflow: any, hash: string, note: Note | undefined, there: Array<Named & {versionId: string}>}} known
 * @returns {Promise<Note>}
 */
async function ensureExample(n8n, { workflow, hash, note, there }) {
	const known = note
		? there.find(({ id }) => id === note.id)
		: there.find(({ name }) => name === workflow.name);
	if (!note && !known) {
		const { id, versionId } = await n8n.createWorkflow(workflow);
		if (webhookOf(workflow)) await n8n.activate(id);
		return { id, versionId, hash };
	}
	// Cut off between making it and noting it.
	if (!note) return { id: known.id, versionId: known.versionId, hash };
	const untouched = known?.versionId === note.versionId;
	if (note.hash === hash || !untouched) return note;
	const { nodes, connections, settings } = workflow;
	const change = { nodes, connections, settings, versionId: note.versionId };
	const { versionId } = await n8n.rest('PATCH', `/workflows/${note.id}`, change);
	if (await isActive(n8n, note.id)) await n8n.activate(note.id);
	return { id: note.id, versionId, hash };
}

/**
 * @param {N8n} n8n
 * @param {Note[]} notes
 * @returns {Promise<{method: string, path: string} | undefined>} of an example that answers now
 */
export async function activeWebhook(n8n, notes) {
	for (const { id } of notes) {
		const workflow = await n8n.rest('GET', `/workflows/${id}`).catch(() => undefined);
		const webhook = workflow && webhookOf(workflow);
		if (webhook && (await isActive(n8n, id))) return webhook;
	}
	return undefined;
}

/** @param {N8n} n8n @param {string} id */
async function isActive(n8n, id) {
	return (await n8n.rest('GET', `/workflows/${id}/publication-status`)).status === 'published';
}

/** @param {{nodes: any[]}} workflow */
function webhookOf({ nodes }) {
	const node = nodes.find(({ type }) => type === 'n8n-nodes-base.webhook');
	if (!node) return undefined;
	const { path, httpMethod = 'GET' } = node.parameters;
	return { method: httpMethod, path: `/webhook/${path}` };
}
