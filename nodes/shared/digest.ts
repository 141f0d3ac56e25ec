/** SHA-256 in hexadecimal. With the web's own crypto: nodes import nothing but n8n-workflow. */
export async function sha256(data: string | Uint8Array): Promise<string> {
	const given = typeof data === 'string' ? new TextEncoder().encode(data) : data;
	const bytes = await crypto.subtle.digest('SHA-256', given as Uint8Array<ArrayBuffer>);
	return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
