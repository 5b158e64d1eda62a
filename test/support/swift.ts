import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.ts';

const kinds = ['account', 'container', 'object'] as const;

const makeRings = `
import json, sys
from swift.common.ring import RingBuilder
for path, port in json.loads(sys.argv[1]):
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({'region': 1, 'zone': 1, 'ip': '127.0.0.1', 'port': port, 'replication_ip': '127.0.0.1',
        'replication_port': port, 'device': 'd1', 'weight': 100.0, 'meta': ''})
    builder.rebalance()
    builder.get_ring().save(path)
`;

/** OpenStack Swift of Debian with its S3 interface, on the loopback interface; keys test:tester and testing. */
export class SwiftForTests {
  private readonly folder = mkdtempSync(join(tmpdir(), 'sweepbook-swift-'));
  private readonly children: ChildProcess[] = [];
  private port = 0;

  static async start(): Promise<SwiftForTests> {
    const swift = new SwiftForTests();
    const ports = await freePorts(kinds.length + 1);
    swift.port = ports[kinds.length] ?? 0;
    mkdirSync(join(swift.folder, 'devices', 'd1'), { recursive: true });
    swift.writeRings(ports);
    kinds.forEach((kind, at) => swift.writeServer(kind, ports[at] ?? 0));
    swift.writeProxy();
    // As root its servers give up their rights to the user of the package.
    if (process.getuid?.() === 0) execFileSync('chown', ['-R', 'swift:', swift.folder]);
    for (const kind of [...kinds, 'proxy']) {
      const child = spawn(`swift-${kind}-server`, [join(swift.folder, `${kind}.conf`)], {
        stdio: 'ignore',
        cwd: swift.folder,
      });
      swift.children.push(child);
    }
    const answers = () =>
      fetch(`${swift.endpoint}/info`).then(
        (answer) => answer.ok,
        () => false,
      );
    // The proxy avoids for a while what did not answer it once.
    for (const port of ports.slice(0, -1)) await until('Swift listens', () => listens(port));
    await until('Swift answers', answers);
    return swift;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** What swift-ring-builder does, in one process instead of nine. */
  private writeRings(ports: readonly number[]): void {
    const rings = kinds.map((kind, at): [string, number] => [
      join(this.folder, `${kind}.ring.gz`),
      ports[at] ?? 0,
    ]);
    // The one of Debian, whose modules Swift is made of.
    execFileSync('/usr/bin/python3', ['-c', makeRings, JSON.stringify(rings)]);
  }

  private writeServer(kind: string, port: number): void {
    writeFileSync(
      join(this.folder, `${kind}.conf`),
      [
        '[DEFAULT]',
        'bind_ip = 127.0.0.1',
        `bind_port = ${port}`,
        'workers = 0',
        `user = ${userOfServers()}`,
        `swift_dir = ${this.folder}`,
        `devices = ${join(this.folder, 'devices')}`,
        'mount_check = false',
        '[pipeline:main]',
        `pipeline = ${kind}-server`,
        `[app:${kind}-server]`,
        `use = egg:swift#${kind}`,
        '',
      ].join('\n'),
    );
  }

  private writeProxy(): void {
    const filters = ['catch_errors', 'cache', 'listing_formats', 's3api', 'tempauth', 'slo', 'dlo'];
    const more: Record<string, string[]> = {
      // No memcached is there, and none is asked for.
      cache: ['memcache_servers = 127.0.0.1:1'],
      s3api: ['location = us-east-1', 'min_segment_size = 5242880'],
      tempauth: ['user_test_tester = testing .admin'],
    };
    writeFileSync(
      join(this.folder, 'proxy.conf'),
      [
        '[DEFAULT]',
        'bind_ip = 127.0.0.1',
        `bind_port = ${this.port}`,
        'workers = 0',
        `user = ${userOfServers()}`,
        `swift_dir = ${this.folder}`,
        '[pipeline:main]',
        `pipeline = ${filters.join(' ')} proxy-server`,
        '[app:proxy-server]',
        'use = egg:swift#proxy',
        'account_autocreate = true',
        ...filters.flatMap((name) => {
          const egg = name === 'cache' ? 'memcache' : name;
          return [`[filter:${name}]`, `use = egg:swift#${egg}`, ...(more[name] ?? [])];
        }),
        '',
      ].join('\n'),
    );
  }

  /** Files in which it keeps the objects: the back door. */
  objectFiles(): string[] {
    const root = join(this.folder, 'devices', 'd1', 'objects');
    return readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.data'))
      .map((name) => join(root, name));
  }

  signal(signal: NodeJS.Signals): void {
    for (const child of this.children) child.kill(signal);
  }

  async stop(): Promise<void> {
    const ended = this.children.map(
      (child) => new Promise<void>((resolve) => child.once('exit', () => resolve())),
    );
    this.signal('SIGKILL');
    await Promise.all(ended);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function userOfServers(): string {
  return process.getuid?.() === 0
    ? 'swift'
    : execFileSync('id', ['-un'], { encoding: 'utf8' }).trim();
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true));
    socket.once('error', () => resolve(false)).once('connect', () => socket.destroy());
  });
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(
    servers.map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
