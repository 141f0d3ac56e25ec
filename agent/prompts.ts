/**
 * Is a program asking for something? It shows that by an unfinished line and silence. This looks at the
 * last line only, knows no clock and promises nothing: what looks secret is called hidden, whatever else
 * it may be, and a line that could be a shell's own prompt is no question.
 */
import type { Stream } from '../protocol/frames';

export interface Question {
	kind: 'password' | 'confirmation' | 'question';
	/** The unfinished line, without colours. */
	text: string;
	hidden: boolean;
	/** How long a silence after the line makes it a question. */
	quietMs: number;
}

/** Longer lines are progress, not prompts; only their end is looked at. */
const maxLineBytes = 1_024;
const maxTextLength = 200;
/** Questions for a password, or for yes or no, are worded so that hardly anything else looks like them. */
const surelyMs = 300;
const perhapsMs = 1_000;

const secret =
	/\b(?:pass ?(?:word|phrase|code)|pin(?: code)?|(?:verification|one-time|security|authenticator|access|auth(?:entication)?) (?:code|password|token)|otp|2fa code|(?:api|secret|private|access) ?key|secret|token|passwort|kennwort|mot de passe|contrase(?:ñ|n)a|senha)\b[^?]*[:?>]$/i;
const yesOrNo =
	/[([](?:y|n|yes|no|j|ja|nein)(?:[/|](?:[a-z]{1,10}|\[[a-z]{1,16}\]|\?)){1,6}[)\]](?:\s*[:?>])?(?:\s*\[[a-z]{1,3}\])?$|\b(?:y\/n|yes\/no)\b.{0,12}$|\b(?:press|hit) (?:any key|enter|return|\[?enter\]?)\b[^\n]*$|\b(?:continue|proceed|overwrite|are you sure|confirm|abort|retry)\b[^?]*\?$/i;
const asks = /\p{L}[^\p{L}]{0,24}[?:]$/u;
/** `user@host:~$`, `#`, `%`, `>>>`: whoever opened a shell knows that it waits. */
const shell = /(?:^|[\s\w~\])/])[$#%>]$|^(?:>>>|\.\.\.|In \[\d+\]:)$/;
/** 12:30: or file.c:10: is a place, not a question. */
const place = /\d:$/;

/** What an unfinished line asks, if anything. */
export function questionIn(line: string): Question | undefined {
	const text = line.trim();
	if (text === '' || !/\p{L}/u.test(text)) return undefined;
	const shown = text.length > maxTextLength ? `…${text.slice(1 - maxTextLength)}` : text;
	if (yesOrNo.test(text)) {
		return { kind: 'confirmation', text: shown, hidden: false, quietMs: surelyMs };
	}
	if (secret.test(text)) return { kind: 'password', text: shown, hidden: true, quietMs: surelyMs };
	if (shell.test(text) || place.test(text) || !asks.test(text)) return undefined;
	return { kind: 'question', text: shown, hidden: false, quietMs: perhapsMs };
}

/** A shell at rest. No question: whoever opened it knows that it waits. */
export function isShellPrompt(line: string): boolean {
	return shell.test(line.trim());
}

/** Follows the output of a program and knows its last line as a person would see it. */
export class LastLine {
	#bytes: Record<Stream, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
	#stream: Stream = 'stdout';

	/** True when the chunk finished a line. */
	push(stream: Stream, chunk: Uint8Array): boolean {
		if (chunk.length === 0) return false;
		this.#stream = stream;
		const at = chunk.lastIndexOf(10);
		const rest = at < 0 ? Buffer.concat([this.#bytes[stream], chunk]) : chunk.subarray(at + 1);
		// A copy: a small piece must not keep a whole buffer of the pipe alive.
		this.#bytes[stream] = Buffer.from(rest.subarray(-maxLineBytes));
		return at >= 0;
	}

	/** The line was answered: what is printed next begins a new one, even if nobody echoed the line end. */
	restart(): void {
		this.#bytes = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
	}

	/** Of the stream that printed last. */
	get text(): string {
		return seen(this.#bytes[this.#stream].toString('utf8'));
	}
}

const escapes = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_])/g;
const controls = /[\u0000-\u001f\u007f]/;

/** As it looks on a screen: what a carriage return or a backspace took back is gone, and so are colours. */
function seen(line: string): string {
	let text = '';
	for (const character of line.replace(escapes, '').replace(/\r+$/, '')) {
		if (character === '\r') text = '';
		else if (character === '\b') text = text.slice(0, -1);
		else if (!controls.test(character)) text += character;
	}
	return text;
}
