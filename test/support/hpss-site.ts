import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { adler32 } from 'hash-wasm';

export interface HsiAnswer {
  code: number;
  out: string;
}

interface Held {
  bytes: Buffer;
  /** As it was stored with the file: not looked at again unless it is verified. */
  sum: string | undefined;
  /** Bytes at each level: disk, tape, tape. */
  levels: number[];
  changedAt: Date;
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

/**
 * An HPSS system of a few lines, and an `hsi` that asks it. The program takes its arguments for one line of text, as
 * the real one does; `lie` may change any answer.
 */
export async function startHpssSite(folder: string) {
  mkdirSync(folder, { recursive: true });
  const held = new Map<string, Held>();
  const folders = new Set<string>(['/home']);
  const asked: string[] = [];
  const state = {
    lie: undefined as
      | ((command: string, honest: HsiAnswer, args: string[]) => HsiAnswer | undefined)
      | undefined,
    isFrozen: false,
    open: 0,
    mostOpen: 0,
  };
  const hsi = join(folder, 'hsi');

  const server = createServer((socket) => {
    state.open++;
    state.mostOpen = Math.max(state.mostOpen, state.open);
    socket.on('close', () => state.open--);
    socket.on('error', () => undefined);
    let line = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      line += text;
      if (line.endsWith('\n') && !state.isFrozen) void reply(socket, line.trimEnd());
    });
  });

  async function reply(socket: Socket, line: string): Promise<void> {
    asked.push(line);
    const words = line.split(' ').filter((word) => word !== '');
    const [popen, command = '', ...args] = words;
    const honest =
      popen !== '-P' || /[;"'`*?]/.test(line)
        ? { code: 64, out: `*** hsi: what is ${line}\n` }
        : await answer(command, args).catch((error: unknown) => ({
            code: 72,
            out: `*** ${command}: ${String(error)}\n`,
          }));
    const { code, out } = state.lie?.(command, honest, args) ?? honest;
    socket.end(`${code}\n${out}`);
  }

  const absent = (command: string, path: string): HsiAnswer => ({
    code: 72,
    out: `*** hsi: ${command}: ${path}: No such file or directory [-2: HPSS_ENOENT]\n`,
  });
  const pad = (value: number) => String(value).padStart(2, '0');
  const timeOf = (at: Date) =>
    `${days[at.getUTCDay()]} ${months[at.getUTCMonth()]} ${pad(at.getUTCDate())} ${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}:${pad(at.getUTCSeconds())} ${at.getUTCFullYear()}`;
  const lineOf = (path: string, file: Held | undefined) =>
    file
      ? `-rw-r-----   1 babar    hep             7         0 ${file.levels[0] ? 'DISK' : 'TAPE'} ${String(file.bytes.length).padStart(14)} ${timeOf(file.changedAt)} ${path}\n`
      : `drwxr-x---   2 babar    hep                                512 ${timeOf(new Date())} ${path}\n`;
  const blockOf = ({ levels }: Held) =>
    `Storage   VV   Stripe\n Level   Count  Width  Bytes at Level\n${'-'.repeat(76)}\n${levels
      .map((bytes, level) => {
        const kind = level === 0 ? 'disk' : 'tape';
        const place =
          level === 0 || bytes === 0
            ? ''
            : '            (VV# 0)   Pos:  12+0   PV List: AB123400\n';
        return ` ${level} (${kind})     1     1   ${bytes || '(no data at this level)'}\n${place}`;
      })
      .join('')}`;

  async function answer(command: string, args: string[]): Promise<HsiAnswer> {
    const paths = args.filter((arg) => !arg.startsWith('-'));
    const [path = ''] = paths;
    switch (command) {
      case 'mkdir':
        for (let at = path; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) {
          if (held.has(at)) return { code: 72, out: `*** mkdir: ${at}: Not a directory\n` };
          folders.add(at);
        }
        return { code: 0, out: '' };
      case 'put':
        return put(args);
      case 'get': {
        const [local = '', , from = ''] = args.slice(2);
        const file = held.get(from);
        if (!file) return absent(command, from);
        const isChecked = args[1] === 'on';
        if (isChecked && file.sum !== undefined && file.sum !== (await adler32(file.bytes))) {
          return { code: 74, out: `*** get: ${from}: checksum mismatch\n` };
        }
        writeFileSync(local, file.bytes);
        return { code: 0, out: '' };
      }
      case 'hashlist': {
        const file = held.get(path);
        if (!file) return absent(command, path);
        return file.sum === undefined
          ? { code: 0, out: `(none) ${path}\n` }
          : { code: 0, out: `${file.sum} adler32 ${path} [hsi]\n` };
      }
      case 'hashverify': {
        const file = held.get(path);
        if (!file) return absent(command, path);
        const isRight = file.sum === (await adler32(file.bytes));
        return isRight
          ? { code: 0, out: `${path}: (adler32) OK\n` }
          : { code: 74, out: `${path}: (adler32) FAILED\n` };
      }
      case 'mv': {
        const [from = '', to = ''] = paths;
        const file = held.get(from);
        if (!file) return absent(command, from);
        held.delete(from);
        held.set(to, file);
        return { code: 0, out: '' };
      }
      case 'rm':
        return held.delete(path) ? { code: 0, out: '' } : absent(command, path);
      case 'ls':
        return ls(args[0] ?? '', paths);
      default:
        return { code: 64, out: `*** unknown command: ${command}\n` };
    }
  }

  async function put(args: string[]): Promise<HsiAnswer> {
    const [local = '', colon, path = ''] = args.slice(4);
    if (args.slice(0, 4).join(' ') !== '-c on -H adler32' || colon !== ':') {
      return { code: 64, out: '*** put: usage\n' };
    }
    if (!folders.has(path.slice(0, path.lastIndexOf('/')))) return absent('put', path);
    const bytes = readFileSync(local);
    held.set(path, {
      bytes,
      sum: await adler32(bytes),
      levels: [bytes.length, 0],
      changedAt: new Date(),
    });
    return { code: 0, out: '' };
  }

  function ls(flags: string, paths: string[]): HsiAnswer {
    let out = '';
    let code = 0;
    for (const path of paths) {
      const file = held.get(path);
      if (!file && !folders.has(path)) {
        out += absent('ls', path).out;
        code = 72;
      } else if (flags.includes('d')) {
        out += lineOf(path, file) + (file && flags.includes('X') ? blockOf(file) : '');
      } else {
        const inside = [...held.keys(), ...folders].filter(
          (name) => name.slice(0, name.lastIndexOf('/')) === path,
        );
        out += `${path}:\n${inside.map((name) => lineOf(name, held.get(name))).join('')}`;
      }
    }
    return { code, out };
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  writeFileSync(
    hsi,
    `#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/${port} || { echo '*** hsi: cannot connect'; exit 69; }
printf '%s\\n' "$*" >&3
read -r code <&3
cat <&3
exit "$code"
`,
    { mode: 0o755 },
  );
  return {
    hsi,
    held,
    folders,
    asked,
    state,
    /** Bytes of a file at its levels, disk first. */
    migrate(path: string, ...levels: number[]): void {
      const file = held.get(path);
      if (file) file.levels = levels;
    },
    async close(): Promise<void> {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
