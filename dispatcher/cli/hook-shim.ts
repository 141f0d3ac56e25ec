/**
 * The file that `robot-fleet hook install` puts into n8n's user folder for EXTERNAL_HOOK_FILES.
 *
 * n8n does not start when a file named there is missing or throws. So it lies where no update or removal
 * of the package reaches it, runs on every Node, decides nothing, and catches everything.
 */

/** Its first line. Other files are not ours to change. */
export const shimMark = '// Robot Fleet: hook of n8n, version ';
const shimVersion = 1;
export const shimName = 'robot-fleet-hook.js';

export const shimText = `${shimMark}${shimVersion}
// Made by: robot-fleet hook install. Taken out of use by: robot-fleet hook uninstall.
// While EXTERNAL_HOOK_FILES names this file it must stay here: n8n does not start without it.
'use strict';

var path = require('path');

// Where n8n keeps community packages, and those that somebody put there by hand.
var places = ['nodes', 'custom'].map(function (folder) {
	return path.join(__dirname, folder, 'node_modules', 'n8n-nodes-robot-fleet');
});

function say(error) {
	try {
		var text = String((error && error.message) || error).split('\\n')[0];
		process.stderr.write('[robot-fleet] warn the hook does nothing: ' + text + '\\n');
	} catch (_error) {
		// Not even that is worth n8n's start.
	}
}

function installed() {
	for (var i = 0; i < places.length; i += 1) {
		try {
			require.resolve(places[i] + '/package.json');
			return places[i];
		} catch (_error) {
			// Perhaps the next one.
		}
	}
	return undefined;
}

function call(name, given) {
	return new Promise(function (resolve) {
		var place = installed();
		if (place === undefined) throw new Error('n8n-nodes-robot-fleet is not installed');
		resolve(require(place + '/dist/nodes/shared/hook.js')[name](given));
	}).catch(say);
}

module.exports = {
	n8n: {
		ready: [
			function (server) {
				return call('ready', server);
			},
		],
		stop: [
			function () {
				return call('stop');
			},
		],
	},
};
`;

/** In its place when it is taken out of use while n8n may still name it. */
export const emptyShimText = `${shimMark}0
// Taken out of use by: robot-fleet hook uninstall. Does nothing.
// Delete it when EXTERNAL_HOOK_FILES does not name it any more: n8n does not start without it.
'use strict';

module.exports = {};
`;
