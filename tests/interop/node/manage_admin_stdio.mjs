// stdin: {origin, token}; stdout: what manage_admin.ts saw. It stands beside the compiled programs.
import { printLine, readConfig } from './json_stdio.mjs';
import { manage } from './manage_admin.js';

const { origin, token } = await readConfig();
printLine(await manage(origin, token));
