import { refuseAll } from './attack.ts';
import { importAttacks } from './imports.world.ts';

refuseAll('an import is what its manifest told, and is entered whole or not at all', importAttacks);
