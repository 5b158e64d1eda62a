import { refuseAll } from './attack.ts';
import { poolAttacks } from './pools.world.ts';

refuseAll('a pool holds what was read, and lets go only what a mass store has', poolAttacks);
