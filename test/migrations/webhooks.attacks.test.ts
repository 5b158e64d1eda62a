import { refuseAll } from './attack.ts';

const columns = 'owner, url, kinds, salt, key_id, epoch, told_xid, told_id';
const values = (changed: Record<string, string> = {}) => {
  const all: Record<string, string> = {
    owner: `'anna'`,
    url: `'https://hooks.example.org/'`,
    kinds: `'{DATASET_CLEARED}'`,
    salt: `decode(repeat('00', 16), 'hex')`,
    key_id: `'0123456789ab'`,
    epoch: `'e'`,
    told_xid: `'100'`,
    told_id: '5',
    ...changed,
  };
  return columns
    .split(', ')
    .map((column) => all[column])
    .join();
};
const made = (changed?: Record<string, string>) =>
  `insert into webhooks (${columns}) values (${values(changed)});`;
const then = (change: string) => `${made()} update webhooks set ${change}`;

refuseAll('a webhook keeps what it was made with, and is told each thing once', {
  'makes one to no address': made({ url: `'ftp://hooks.example.org/'` }),
  'makes one for nothing': made({ kinds: `'{}'` }),
  'makes one for something else': made({ kinds: `'{RUN_STATUS}'` }),
  'makes one with a weak salt': made({ salt: `'x'` }),
  'makes a twenty-first': made().repeat(21),
  'makes one that is held already': `insert into webhooks (${columns}, claim) values (${values()}, 3)`,
  'gives one away': then(`owner = 'olga'`),
  'turns its address': then(`url = 'https://elsewhere.example.org/'`),
  'widens it': then(`scope = 'ALL'`),
  'changes its secret': then(`salt = decode(repeat('11', 16), 'hex')`),
  'disables it without a reason': then(`status = 'DISABLED'`),
  'tells it again what it was told': then(`told_id = 4`),
  'tells it again what it was told, by an older transaction': then(`told_xid = '99', told_id = 9`),
  'takes it from the server that holds it': `${made()}
    update webhooks set claim = 1, server = 'a', lease_until = clock_timestamp() + interval '1 hour';
    update webhooks set claim = 2, server = 'b'`,
  'jumps over a claim': then('claim = 2'),
});
