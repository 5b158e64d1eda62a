import { refuseAll } from './attack.ts';
import { suspicionAttacks } from './suspicions.world.ts';

refuseAll('a copy is good or bad by what was read, and by nothing else', suspicionAttacks);
