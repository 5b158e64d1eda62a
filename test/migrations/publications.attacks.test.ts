import { refuseAll } from './attack.ts';
import { publicationAttacks } from './publications.world.ts';

refuseAll(
  'a publication is what was asked for, and is published whole or not at all',
  publicationAttacks,
);
