import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { until } from './until.ts';

/** As root it runs as the user of its package. */
function ownedByServer(path: string): void {
  if (process.getuid?.() === 0) execFileSync('chown', ['-R', 'xrootd:', path]);
}

/** An XRootD server of Debian on the loopback interface, with the path /store. */
export class XrootdForTests {
  readonly folder = mkdtempSync(join(tmpdir(), 'sweepbook-xrootd-'));
  readonly data = join(this.folder, 'data');
  /** Further lines of its configuration. */
  private more: readonly string[] = [];
  private port = 0;
  private child: ChildProcess | undefined;

  static async start(
    prepare: (data: string) => void = () => undefined,
    more: readonly string[] = [],
  ): Promise<XrootdForTests> {
    const server = new XrootdForTests();
    server.more = more;
    for (const name of ['data', 'admin', 'run', 'log']) mkdirSync(join(server.folder, name));
    prepare(server.data);
    await server.start();
    return server;
  }

  get url(): string {
    return `root://127.0.0.1:${this.port}`;
  }

  /** Its HTTP door, on the same port. */
  get door(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Where a file of /store lies on this host: the back door. */
  path(key: string): string {
    return join(this.data, 'store', key);
  }

  /**
   * It binds to all interfaces if it may choose, so it is handed a listening socket. As root it refuses to run:
   * then it runs as the user of its package.
   */
  async start(): Promise<void> {
    const listening = createServer();
    await new Promise<void>((resolve) => listening.listen(this.port, '127.0.0.1', resolve));
    this.port = (listening.address() as AddressInfo).port;
    writeFileSync(join(this.folder, 'xrd.cfg'), this.configuration());
    const isRoot = process.getuid?.() === 0;
    if (isRoot) execFileSync('chown', ['-R', 'xrootd:', this.folder]);
    const fd = fdOf(listening);
    this.child = spawn(
      'perl',
      [
        // The socket comes without blocking, and the server would ask it for connections in a circle.
        '-e',
        '$^F = 3; $ENV{LISTEN_PID} = $$; open(S, "<&=3"); fcntl(S, 4, 0); exec @ARGV',
        ...(isRoot ? ['setpriv', '--reuid', 'xrootd', '--regid', 'xrootd', '--clear-groups'] : []),
        'xrootd',
        '-c',
        join(this.folder, 'xrd.cfg'),
        '-l',
        join(this.folder, 'log', 'log'),
      ],
      {
        cwd: this.folder,
        env: { PATH: process.env['PATH'], LISTEN_FDS: '1' },
        stdio: ['ignore', 'ignore', 'ignore', fd],
      },
    );
    listening.close();
    await until('XRootD answers', () => this.answers());
  }

  private configuration(): string {
    return [
      'all.role server',
      'all.export /store',
      `oss.localroot ${this.data}`,
      `all.adminpath ${join(this.folder, 'admin')}`,
      `all.pidpath ${join(this.folder, 'run')}`,
      `xrd.port ${this.port}`,
      'xrd.network nodnr',
      'xrootd.chksum max 4 adler32 crc32c md5',
      'xrd.protocol XrdHttp libXrdHttp.so',
      ...this.more,
      '',
    ].join('\n');
  }

  /** The first bytes of its protocol, so that it is known to serve and not only to listen. */
  private answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.port, '127.0.0.1');
      const end = (isUp: boolean) => {
        socket.destroy();
        resolve(isUp);
      };
      socket.setTimeout(1000, () => end(false));
      socket.once('error', () => end(false));
      socket.once('data', () => end(true));
      socket.write(Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 7, 0xdc]));
    });
  }

  /** What its host can do behind the back of a store in its folder "mass". */
  massBackDoor() {
    const at = (key: string) => this.path(`mass/${key}`);
    let seconds = 0;
    const write = (key: string, bytes: Buffer) => {
      mkdirSync(dirname(at(key)), { recursive: true });
      writeFileSync(at(key), bytes);
      // Its checksums are kept by time in whole seconds.
      const later = new Date(Date.now() + ++seconds * 2000);
      utimesSync(at(key), later, later);
      ownedByServer(dirname(at(key)));
    };
    return {
      write,
      read: (key: string) => readFileSync(at(key)),
      remove: (key: string) => rmSync(at(key)),
      unmount: async () => {
        renameSync(this.path('mass'), this.path('away'));
        mkdirSync(this.path('mass'));
        ownedByServer(this.path('mass'));
        return () => {
          rmSync(this.path('mass'), { recursive: true });
          renameSync(this.path('away'), this.path('mass'));
        };
      },
    };
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  async kill(): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A server says this nowhere in public. */
function fdOf(server: Server): number {
  return (server as unknown as Record<string, { fd: number }>)['_handle']?.fd ?? -1;
}
