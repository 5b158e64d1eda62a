import { connect } from 'node:net';

export interface RawAnswer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** The bytes as they are, which no client library would send; all that comes back until the server hangs up. */
export async function sendRaw(
  address: string,
  bytes: Buffer,
  patienceMs: number,
): Promise<RawAnswer[]> {
  const { hostname, port } = new URL(address);
  const parts: Buffer[] = [];
  await new Promise<void>((resolve) => {
    const socket = connect(Number(port), hostname);
    // A server that hangs up in the midst of nonsense is right; where it waits for more, we hang up.
    const hangUp = setTimeout(() => socket.end(), patienceMs);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(hangUp);
      resolve();
    });
    socket.on('data', (part: Buffer) => {
      parts.push(part);
      if (isKeptOpen(part)) socket.end();
    });
    socket.write(bytes);
  });
  return answersIn(Buffer.concat(parts).toString('latin1'));
}

const isKeptOpen = (part: Buffer) =>
  /^HTTP\/1\.1 101 |\r\nconnection: keep-alive\r\n/i.test(part.toString('latin1', 0, 2000));

function answersIn(text: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = text; rest !== '';) {
    const end = rest.indexOf('\r\n\r\n');
    const [first = '', ...lines] = rest.slice(0, end === -1 ? undefined : end).split('\r\n');
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1];
    if (status === undefined || end === -1)
      throw new Error(`no answer of HTTP: ${JSON.stringify(rest.slice(0, 300))}`);
    const headers = new Map(
      lines.map((line) => [
        line.split(':')[0]?.toLowerCase() ?? '',
        line.slice(line.indexOf(':') + 1).trim(),
      ]),
    );
    const length = headers.get('content-length');
    const body = rest.slice(end + 4, length === undefined ? undefined : end + 4 + Number(length));
    answers.push({ status: Number(status), headers, body: bodyOf(body, headers) });
    rest = status === '101' || length === undefined ? '' : rest.slice(end + 4 + Number(length));
  }
  return answers;
}

const bodyOf = (body: string, headers: ReadonlyMap<string, string>) =>
  headers.get('transfer-encoding') === 'chunked'
    ? body.replaceAll(/(^|\r\n)[0-9a-f]+\r\n/g, '')
    : body;
