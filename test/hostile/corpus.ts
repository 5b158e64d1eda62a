import { readFileSync } from 'node:fs';

/*
 * What strangers send. Every string has the name of its family, so that a find says what it was. Seeded: the order and
 * the shares (HOSTILE_SEED says which again); TEST_ALL=1 tries everything everywhere, TEST_PART=3/10 the third tenth of it.
 */
export const seed = Number(process.env['HOSTILE_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
export const isWhole = process.env['TEST_ALL'] === '1';
const part = partOf(process.env['TEST_PART'] ?? '1/1');
const told = isWhole ? `TEST_ALL=1 TEST_PART=${part.at}/${part.of} ` : '';
console.log(`${told}HOSTILE_SEED=${seed}`);

/** `3/10`: the third of ten parts. They do not depend on the seed: together they are all. */
function partOf(text: string): { at: number; of: number } {
  const [at = Number.NaN, of = Number.NaN] = /^\d+\/\d+$/.test(text)
    ? text.split('/').map(Number)
    : [];
  if (!(at >= 1 && at <= of)) throw new Error(`TEST_PART=${text} is no part: give one like 3/10`);
  if (of > 1 && !isWhole) throw new Error('TEST_PART is a part of TEST_ALL=1: give both');
  return { at, of };
}

export interface Hostile {
  /** Which of the corpus it is, whatever the order. */
  readonly at: number;
  readonly family: string;
  readonly text: string;
}

const codes = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `a${String.fromCharCode(from + i)}b`);

/** What is too long to be written down, or too much. */
const made: Record<string, readonly string[]> = {
  control: [...codes(0, 0x1f), ...codes(0x7f, 0x9f)],
  paths: [
    '/a'.repeat(600),
    ...['d', 'é'].flatMap((sign) => [255, 256].map((n) => `/${sign.repeat(n)}`)),
  ],
  numbers: ['9'.repeat(400)],
  unicode: ['a'.concat('\u0301'.repeat(200))],
  extent: [
    ...[128, 255, 256, 257, 1024, 1025, 4097, 8191, 65_536].map((n) => 'a'.repeat(n)),
    // What a careless pattern goes over again and again before it says no.
    ...['a', ' ', '\t', '.', '/', '-', '1', '%20'].map((text) => `${text.repeat(9000)}!`),
    ...[
      '\0',
      '😀',
      '\ud800',
      '%',
      '*',
      '*a',
      '?',
      '/',
      '"',
      '\\',
      '\n',
      '(',
      '[',
      '{"a":',
      '1,',
      '1-2,',
    ].map((text) => text.repeat(2000)),
  ],
};

/** The families of strings.txt: a name in brackets, and below it its texts as JSON. */
function* written(): Generator<Omit<Hostile, 'at'>> {
  let family = '';
  for (const line of readFileSync(new URL('strings.txt', import.meta.url), 'utf8').split('\n')) {
    if (line.startsWith('[')) family = line.slice(1, -1);
    else if (line.startsWith('"')) yield { family, text: JSON.parse(line) as string };
  }
}

/** All of them, each text once. `places`: files and folders that nobody may come to. */
export function corpus(places: readonly string[] = []): Hostile[] {
  const more = Object.entries({ ...made, places }).flatMap(([family, texts]) =>
    texts.map((text) => ({ family, text })),
  );
  const found = new Map([...written(), ...more].map((hostile) => [hostile.text, hostile]));
  return shuffled(
    [...found.values()].map((hostile, at) => ({ at, ...hostile })),
    randomOf(seed),
  );
}

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function shuffled<T>(list: readonly T[], random: () => number): T[] {
  const left = [...list];
  for (let i = left.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [left[i], left[j]] = [left[j] as T, left[i] as T];
  }
  return left;
}

/** Which strings go where: everything with TEST_ALL=1; else each string to `each` places and each place its share. */
export function* shares<Place>(
  strings: readonly Hostile[],
  places: readonly Place[],
  each: number,
): Generator<{ place: Place; hostile: Hostile }> {
  const order = shuffled([...places.entries()], randomOf(seed + 1));
  for (const [i, hostile] of strings.entries()) {
    const many = isWhole ? order.length : Math.min(each, order.length);
    // Steps of a share, so that all places get about as many.
    for (let k = 0; k < many; k++) {
      const [at, place] = order[(i * many + k) % order.length] ?? [];
      if (at !== undefined && place !== undefined && isOfPart(hostile.at + at))
        yield { place, hostile };
    }
  }
}

/** Whether what is numbered so is tried in this part: always, where it is not the whole that is tried. */
export const isOfPart = (sum: number) => !isWhole || sum % part.of === part.at - 1;

/** What no message, table or line of a log may hold as it is: it moves cursors, breaks lines, turns letters round. */
export const unprintable =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u061c\u2028-\u202e\u2066-\u2069]/;
