import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';
import type { Refusal } from '../support/client.ts';
import { committedSchema } from '../support/scene.ts';
import { errorsOf, openSocket } from '../support/socket.ts';
import { corpus, shares, unprintable, type Hostile } from './corpus.ts';
import { placesOf, type Place } from './places.ts';
import { sendRaw, type RawAnswer } from './raw-http.ts';
import { roadsOf } from './roads.ts';
import { canary, openStage, planted, type Stage } from './stage.ts';

/* Every text that the schema takes, with everything that strangers send: refused or taken, and nothing else happens. */
let stage: Stage;
let before: Awaited<ReturnType<Stage['state']>>;
let strings: Hostile[];
beforeAll(async () => {
  stage = await openStage({ SWEEPBOOK_TRUSTED_PROXIES: '127.0.0.1' });
  before = await stage.state();
  strings = corpus(stage.forbidden);
});
afterAll(() => stage.close());

const places = placesOf(committedSchema);
/** Each string comes to so many places in the suite. */
const each = 2;
const atOnce = 8;

interface Answer {
  readonly data?: unknown;
  readonly errors?: readonly Refusal[];
}

/** Places where a text came as far as the code of the field. */
const reachedField = new Set<string>();

/** What is wrong with an answer. */
function faultsOf(place: Place, { family, text }: Hostile, answer: Answer, raw: string): string[] {
  const about = `${place.name} ← ${family} ${JSON.stringify(text.slice(0, 80))}`;
  const faults: string[] = [];
  const errors = answer.errors ?? [];
  for (const { message, path, extensions } of errors) {
    const said = `${extensions.code} ${JSON.stringify(message.slice(0, 200))}`;
    if (extensions.code === 'INTERNAL' || !errorCodes.some((code) => code === extensions.code)) {
      faults.push(`${about}: ${said}`);
    }
    if (unprintable.test(message)) faults.push(`${about}: unprintable in ${said}`);
    if (!message.isWellFormed()) faults.push(`${about}: ill-formed ${said}`);
    const isKeptOut = ['FORBIDDEN', 'UNAUTHENTICATED', 'QUERY_TOO_COMPLEX'].includes(
      extensions.code,
    );
    // What a subscription is refused for is told without a path.
    const isOfField = path !== undefined || place.root === 'subscription';
    if (isOfField && !isKeptOut) reachedField.add(place.name);
    else if (place.type !== 'DateTime')
      faults.push(`${about}: not let through to the field: ${said}`);
  }
  if (errors.length === 0) {
    if (answer.data === undefined) faults.push(`${about}: neither data nor errors`);
    reachedField.add(place.name);
  }
  if (raw.includes(canary)) faults.push(`${about}: the canary came out`);
  return faults;
}

async function ask(place: Place, hostile: Hostile, isPlain: boolean): Promise<string[]> {
  const response = await fetch(`${stage.address}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${stage.token}` },
    body: JSON.stringify({
      query: place.query,
      variables: place.variables(hostile.text),
      // Else the fast road answers what it can.
      ...(isPlain ? { extensions: {} } : {}),
    }),
  });
  const raw = await response.text();
  const faults =
    response.status < 500
      ? []
      : [`${place.name} ← ${hostile.family}: HTTP ${response.status} ${raw}`];
  return [...faults, ...faultsOf(place, hostile, JSON.parse(raw) as Answer, raw)];
}

test('there is enough of it', () => {
  expect(strings.length).toBeGreaterThan(500);
  expect(places.length).toBeGreaterThan(400);
});

test(
  'queries and mutations: refused or taken, and never a fault of the program',
  { timeout: 3_600_000 },
  async () => {
    const work = shares(
      strings,
      places.filter(({ root }) => root !== 'subscription'),
      each,
    );
    const faults: string[] = [];
    let asked = 0;
    const asker = async () => {
      for (const { place, hostile } of work)
        faults.push(...(await ask(place, hostile, ++asked % 2 === 0)));
    };
    await Promise.all(Array.from({ length: atOnce }, asker));
    expect(asked).toBeGreaterThan(strings.length);
    expect(faults).toEqual([]);
  },
);

test('subscriptions, likewise', { timeout: 3_600_000 }, async () => {
  const faults: string[] = [];
  const all = [
    ...shares(
      strings,
      places.filter(({ root }) => root === 'subscription'),
      1,
    ),
  ];
  for (let from = 0; from < all.length; from += 50) {
    const socket = await openSocket(stage.address, stage.token);
    const started = new Map(
      all
        .slice(from, from + 50)
        .map((one) => [socket.start(one.place.query, one.place.variables(one.hostile.text)), one]),
    );
    const last = socket.start('{ viewer { name } }');
    for (let message = await socket.next(); message?.id !== last; message = await socket.next()) {
      expect(message, 'the socket stays open').toBeDefined();
      const one = started.get(message?.id ?? '');
      const errors = errorsOf(message);
      if (one && errors)
        faults.push(...faultsOf(one.place, one.hostile, { errors }, JSON.stringify(message)));
      if (errors) started.delete(message?.id ?? '');
    }
    // Nothing is said to who follows what does not happen.
    for (const { place } of started.values()) reachedField.add(place.name);
    socket.terminate();
  }
  expect(faults).toEqual([]);
});

/** What is wrong with what came back on a road that is no GraphQL, or none that a client would send. */
function faultsOfRoad(about: string, { status, headers, body }: RawAnswer): string[] {
  const faults: string[] = [];
  if (status >= 500) faults.push(`${about}: HTTP ${status} ${body.slice(0, 200)}`);
  if (headers.has('set-cookie')) faults.push(`${about}: a forged header`);
  if (body.includes(canary)) faults.push(`${about}: the canary came out`);
  const requestId = headers.get('x-request-id');
  // What is no HTTP, or a handshake, came to nobody who could give it one.
  if (requestId === undefined && [101, 400, 403, 417, 426, 431].includes(status)) return faults;
  if (!/^[\w.-]{1,64}$/.test(requestId ?? '')) faults.push(`${about}: request id ${requestId}`);
  if (status >= 400 && headers.get('content-type')?.includes('json')) {
    const said = JSON.parse(Buffer.from(body, 'latin1').toString()) as {
      code?: string;
      message?: string;
      errors?: Refusal[];
    };
    const code = said.errors?.[0]?.extensions.code ?? said.code ?? '';
    const message = said.errors?.[0]?.message ?? said.message ?? '';
    if (code === 'INTERNAL' || !errorCodes.some((known) => known === code))
      faults.push(`${about}: ${status} ${code} ${message}`);
    if (unprintable.test(message))
      faults.push(`${about}: unprintable in ${JSON.stringify(message)}`);
  }
  return faults;
}

test('headers, addresses, bodies and manifests, byte by byte', { timeout: 3_600_000 }, async () => {
  const work = shares(strings, roadsOf(stage.token), each);
  const faults: string[] = [];
  const sender = async () => {
    for (const { place: road, hostile } of work) {
      const about = `${road.name} ← ${hostile.family} ${JSON.stringify(hostile.text.slice(0, 80))}`;
      const answers = await sendRaw(
        stage.address,
        road.request(hostile.text),
        road.patienceMs ?? 30_000,
      );
      if (answers.length === 0 && road.patienceMs === undefined) faults.push(`${about}: no answer`);
      for (const answer of answers) faults.push(...faultsOfRoad(about, answer));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, sender));
  expect(faults).toEqual([]);
});

test('the texts came as far as the code of the fields', () => {
  // Moments have a form of their own, which few of them have.
  const tried = places.filter(({ type }) => type !== 'DateTime').map(({ name }) => name);
  expect(tried.filter((name) => !reachedField.has(name))).toEqual([]);
});

test('every line of the log is one record, and none tells of a fault', () => {
  const lines = stage.log().split('\n').slice(0, -1);
  expect(lines.length).toBeGreaterThan(1000);
  const records = lines.map(
    (line) => JSON.parse(line) as { level: string; msg: string; pid: number },
  );
  expect(records.filter(({ pid, msg }) => pid !== process.pid || msg === 'forged')).toEqual([]);
  expect(records.filter(({ msg }) => msg === 'a fault of the program')).toEqual([]);
});

test('nothing was made, dropped or reached outside', async () => {
  expect(await stage.state()).toEqual(before);
  expect(existsSync(planted)).toBe(false);
});
