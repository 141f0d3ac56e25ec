/** Carries out the steps of a plan, in order. Stops at the first that fails, with one sentence; the next try goes on. */
import type { Machine, Owner } from './machine';
import { sentenceOf, type Step } from './plan';

const pauseMs = 500;

export class StepFailed extends Error {
	override readonly name = 'StepFailed';
}

export interface Applied {
	/** Some file is not what it was. */
	changed: boolean;
	/** What could not be done, and need not be. */
	remarks: string[];
}

export function apply(steps: readonly Step[], machine: Machine): Applied {
	const applied: Applied = { changed: false, remarks: [] };
	for (const step of steps) {
		try {
			perform(step, machine, applied);
		} catch (error) {
			if (error instanceof StepFailed) throw error;
			throw new StepFailed(`Could not ${sentenceOf(step)}: ${(error as Error).message}.`, {
				cause: error,
			});
		}
	}
	return applied;
}

function perform(step: Step, machine: Machine, applied: Applied): void {
	switch (step.do) {
		case 'make-user': {
			if (machine.account(step.name) !== undefined) return;
			const { code, said } = machine.run([
				'useradd',
				'--system',
				'--user-group',
				'--no-create-home',
				'--home-dir',
				step.home,
				'--shell',
				'/usr/sbin/nologin',
				step.name,
			]);
			if (code !== 0) throw new StepFailed(`Could not ${sentenceOf(step)}: ${said}.`);
			return;
		}
		case 'folder':
			machine.folder(step.path, step.mode, ownerOf(step.owner, machine));
			return;
		case 'write': {
			const { path, text, mode, owner, encoding } = step;
			const bytes =
				encoding === undefined ? Buffer.from(text) : Buffer.from(`\ufeff${text}`, encoding);
			if (machine.write(path, bytes, mode, ownerOf(owner, machine))) applied.changed = true;
			return;
		}
		case 'remove':
			return machine.remove(step.path, step.folder);
		case 'purge':
			return machine.purge(step.path, step.as);
		case 'run': {
			if (step.ifChanged && !applied.changed) return;
			let ran = machine.run(step.command);
			for (let leftMs = step.again?.forMs ?? 0; leftMs > 0; leftMs -= pauseMs) {
				if (!step.again!.codes.includes(ran.code)) break;
				machine.pause(pauseMs);
				ran = machine.run(step.command);
			}
			if (ran.code === 0) return;
			if (step.orElse === undefined) {
				throw new StepFailed(`Could not ${sentenceOf(step)}: ${ran.said}.`);
			}
			if (step.orElse !== '') applied.remarks.push(step.orElse);
		}
	}
}

function ownerOf(name: string | undefined, machine: Machine): Owner | undefined {
	if (name === undefined) return undefined;
	const owner = machine.account(name);
	if (owner === undefined) throw new Error(`there is no user ${name}`);
	return owner;
}
