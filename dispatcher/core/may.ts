/** What the scopes of a key allow: `admin` has all others. */
import { Problem, type Scope } from '../../protocol';

interface Scoped {
	scopes: readonly Scope[];
}

export function may({ scopes }: Scoped, scope: Scope): boolean {
	return scopes.includes(scope) || scopes.includes('admin');
}

export function demand(who: Scoped, scope: Scope): void {
	if (!may(who, scope)) throw new Problem('no-scope', { scope });
}
