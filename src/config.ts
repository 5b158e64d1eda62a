import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { anyRoles, type AnyRole } from './access/roles.ts';
import { usualServer, withFile, type Environment } from './environment.ts';
import { shown, SweepbookError } from './errors.ts';
import { limitForms, limitsOf, type Limits } from './limits.ts';

const flag = z
  .enum(['true', 'false', '1', '0', 'yes', 'no'])
  .transform((word) => ['true', '1', 'yes'].includes(word));
/** Several, with commas between. */
const listOf = (form: RegExp, what: string) =>
  z
    .string()
    .transform((text) => text.split(',').map((part) => part.trim()))
    .refine((parts) => parts.every((part) => form.test(part)), `${what}, with commas between`);
const count = (least: number, most: number) => z.coerce.number().int().min(least).max(most);

/** Every setting: its name in the environment, its form, its default, what it is for. */
const settings = z.object({
  SWEEPBOOK_HOST: z.string().min(1).default(usualServer.host).describe('address to listen on'),
  SWEEPBOOK_PORT: count(0, 65535)
    .default(usualServer.port)
    .describe('port to listen on; 0 = any free one'),
  SWEEPBOOK_HOME: z
    .string()
    .min(1)
    .default(usualServer.home)
    .describe('folder of the embedded database, the default mass store and the first token'),
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/ })
    .optional()
    .describe('PostgreSQL 15 to 18; unset = the embedded one'),
  SWEEPBOOK_SITE: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    .default('local')
    .describe('name of this site'),
  SWEEPBOOK_STORE_ROOT: z
    .string()
    .min(1)
    .optional()
    .describe('root folder of the default mass store; unset = SWEEPBOOK_HOME/store'),
  SWEEPBOOK_STORE_URL_PREFIX: z
    .string()
    .optional()
    .describe('what stands before a file’s key in the URLs that jobs get; unset = the path'),
  SWEEPBOOK_STORES: z
    .string()
    .min(1)
    .optional()
    .describe('the store file (YAML): the mass stores and how to reach them; unset = one folder'),
  SWEEPBOOK_WORKER: flag.default(true).describe('serve also runs a worker'),
  SWEEPBOOK_WORKER_CONCURRENCY: count(1, 64)
    .default(4)
    .describe('backups that one worker makes at once, in one mass store'),
  SWEEPBOOK_LEASE_SECONDS: count(2, 3600)
    .default(15)
    .describe('a worker silent for so long has lost its files'),
  SWEEPBOOK_RETRY_BASE_MS: count(1, 3_600_000)
    .default(2000)
    .describe('first wait after a failed attempt; doubles, with jitter'),
  SWEEPBOOK_QUERY_SECONDS: count(1, 3600)
    .default(30)
    .describe('a question that takes the database longer is broken off'),
  SWEEPBOOK_FAST_READS: flag
    .default(true)
    .describe('answer the usual queries by one statement each; false = all by the resolvers'),
  SWEEPBOOK_RESTAGE_ROOTS: z
    .string()
    .regex(/^(\/[^:]*)(:\/[^:]*)*$/, 'absolute folders, with ":" between them')
    .optional()
    .describe('folders below which workers of this host may restage lost files; unset = nowhere'),
  SWEEPBOOK_SUSPICION_JOBS: count(1, 1000)
    .default(3)
    .describe('so many jobs that cannot read a copy have it checked'),
  SWEEPBOOK_IMPORT_FROM: z
    .string()
    .min(1)
    .optional()
    .describe('the import file (YAML): sites that may be imported from; unset = none'),
  SWEEPBOOK_FOLLOW_SECONDS: count(1, 86_400)
    .default(60)
    .describe('how often a site is looked at that standing rules follow'),
  SWEEPBOOK_PUBLISH: z
    .string()
    .min(1)
    .optional()
    .describe(
      'the publish file (YAML): what users may publish, and how it is merged; unset = nothing',
    ),
  SWEEPBOOK_MANIFEST_KEY: z
    .string()
    .min(1)
    .optional()
    .describe('file of the Ed25519 private key (PEM) that manifests are signed with'),
  SWEEPBOOK_WEBHOOKS: flag.default(true).describe('serve delivers the notices of webhooks'),
  SWEEPBOOK_WEBHOOK_KEY: z
    .string()
    .min(32)
    .optional()
    .describe(
      'what the secrets of webhooks are made from; unset = a file in SWEEPBOOK_HOME, made once',
    ),
  SWEEPBOOK_WEBHOOK_PRIVATE: flag
    .default(false)
    .describe('webhooks may go to addresses of this host and of private networks'),
  SWEEPBOOK_WEBHOOK_RETRY_HOURS: count(1, 720)
    .default(72)
    .describe('a webhook whose receiver fails for so long is disabled'),
  SWEEPBOOK_WEBHOOK_TIMEOUT_SECONDS: count(1, 60)
    .default(10)
    .describe('how long the receiver of a webhook may take to answer'),
  SWEEPBOOK_ISSUERS: z
    .string()
    .min(1)
    .optional()
    .describe('the issuers file (YAML): whose JWTs are taken, and what they allow; unset = none'),
  SWEEPBOOK_ORIGINS: listOf(/^https?:\/\/[^/?#\s]+$/, 'origins like https://book.example.org')
    .optional()
    .describe('pages of other origins that may open a WebSocket; unset = none'),
  SWEEPBOOK_TRUSTED_PROXIES: listOf(/^[0-9a-fA-F.:]+(\/\d{1,3})?$/, 'addresses or networks (CIDR)')
    .optional()
    .describe('proxies that are believed when X-Forwarded-For says who asks; unset = none'),
  SWEEPBOOK_INTROSPECTION: listOf(/^[A-Z]+$/, 'roles, or NOBODY')
    .pipe(z.array(z.enum([...anyRoles, 'NOBODY'])))
    .optional()
    .describe('roles that may ask what the schema is; unset = everybody'),
  SWEEPBOOK_AUDIT_READS: flag
    .default(false)
    .describe('the audit trail has reads, too; changes and refusals it always has'),
  SWEEPBOOK_AUDIT_DAYS: count(0, 36_500)
    .default(365)
    .describe('so many days a line of the audit trail is kept; 0 = for good'),
  SWEEPBOOK_GRAPHIQL: flag.default(true).describe('serve GraphiQL at /graphiql'),
  SWEEPBOOK_MIGRATE: flag.default(true).describe('serve applies missing migrations'),
  SWEEPBOOK_LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info')
    .describe('least grave log line written'),
  SWEEPBOOK_SHUTDOWN_SECONDS: count(1, 3600)
    .default(20)
    .describe('how long running requests and copies may take to end on SIGTERM'),
});

/** With one for each limit (docs/limits.md). */
const allSettings = settings.extend(limitForms);

/** The settings of this process, frozen; paths are absolute. */
export interface Config {
  readonly host: string;
  readonly port: number;
  readonly home: string;
  readonly databaseUrl: string | undefined;
  readonly site: string;
  readonly storeRoot: string;
  readonly storeUrlPrefix: string | undefined;
  /** Path of the store file. */
  readonly stores: string | undefined;
  readonly worker: boolean;
  readonly workerConcurrency: number;
  readonly leaseSeconds: number;
  readonly retryBaseMs: number;
  readonly querySeconds: number;
  readonly fastReads: boolean;
  readonly restageRoots: readonly string[];
  readonly suspicionJobs: number;
  /** Path of the import file. */
  readonly importFrom: string | undefined;
  readonly followSeconds: number;
  /** Path of the publish file. */
  readonly publish: string | undefined;
  /** Path of the private key of manifests. */
  readonly manifestKey: string | undefined;
  readonly webhooks: boolean;
  readonly webhookKey: string | undefined;
  readonly webhookPrivate: boolean;
  readonly webhookRetryHours: number;
  readonly webhookTimeoutSeconds: number;
  /** Path of the issuers file. */
  readonly issuers: string | undefined;
  readonly origins: readonly string[];
  readonly trustedProxies: readonly string[];
  /** Roles that may ask what the schema is; undefined = everybody. */
  readonly introspection: readonly AnyRole[] | undefined;
  readonly auditReads: boolean;
  readonly auditDays: number;
  readonly graphiql: boolean;
  readonly migrate: boolean;
  readonly logLevel: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  readonly shutdownSeconds: number;
  /** What may be asked of the server. */
  readonly limits: Limits;
  readonly hostname: string;
}

/** The one reader of the environment; a value that does not fit is refused with its name. */
export function readConfig(environment: Environment = process.env): Config {
  const merged = withFile(environment);
  const read = allSettings.safeParse(merged);
  const faults = [
    ...strangeLimits(merged),
    ...(read.error?.issues ?? []).map((issue) => {
      const name = issue.path.join('.');
      return `${name}${name in limitForms ? ` ${shown(merged[name])}` : ''}: ${issue.message}`;
    }),
  ];
  if (!read.success || faults.length > 0) {
    throw new SweepbookError('BAD_USER_INPUT', `settings: ${faults.join('; ')}`, { faults });
  }
  const given = read.data;
  const home = resolve(given.SWEEPBOOK_HOME);
  return Object.freeze({
    host: given.SWEEPBOOK_HOST,
    port: given.SWEEPBOOK_PORT,
    home,
    databaseUrl: given.DATABASE_URL,
    site: given.SWEEPBOOK_SITE,
    storeRoot: resolve(given.SWEEPBOOK_STORE_ROOT ?? join(home, 'store')),
    storeUrlPrefix: given.SWEEPBOOK_STORE_URL_PREFIX,
    stores: given.SWEEPBOOK_STORES === undefined ? undefined : resolve(given.SWEEPBOOK_STORES),
    worker: given.SWEEPBOOK_WORKER,
    workerConcurrency: given.SWEEPBOOK_WORKER_CONCURRENCY,
    leaseSeconds: given.SWEEPBOOK_LEASE_SECONDS,
    retryBaseMs: given.SWEEPBOOK_RETRY_BASE_MS,
    querySeconds: given.SWEEPBOOK_QUERY_SECONDS,
    fastReads: given.SWEEPBOOK_FAST_READS,
    restageRoots: Object.freeze(given.SWEEPBOOK_RESTAGE_ROOTS?.split(':') ?? []),
    suspicionJobs: given.SWEEPBOOK_SUSPICION_JOBS,
    importFrom:
      given.SWEEPBOOK_IMPORT_FROM === undefined ? undefined : resolve(given.SWEEPBOOK_IMPORT_FROM),
    followSeconds: given.SWEEPBOOK_FOLLOW_SECONDS,
    publish: given.SWEEPBOOK_PUBLISH === undefined ? undefined : resolve(given.SWEEPBOOK_PUBLISH),
    manifestKey:
      given.SWEEPBOOK_MANIFEST_KEY === undefined
        ? undefined
        : resolve(given.SWEEPBOOK_MANIFEST_KEY),
    webhooks: given.SWEEPBOOK_WEBHOOKS,
    webhookKey: given.SWEEPBOOK_WEBHOOK_KEY,
    webhookPrivate: given.SWEEPBOOK_WEBHOOK_PRIVATE,
    webhookRetryHours: given.SWEEPBOOK_WEBHOOK_RETRY_HOURS,
    webhookTimeoutSeconds: given.SWEEPBOOK_WEBHOOK_TIMEOUT_SECONDS,
    issuers: given.SWEEPBOOK_ISSUERS === undefined ? undefined : resolve(given.SWEEPBOOK_ISSUERS),
    origins: Object.freeze(given.SWEEPBOOK_ORIGINS ?? []),
    trustedProxies: Object.freeze(given.SWEEPBOOK_TRUSTED_PROXIES ?? []),
    introspection: given.SWEEPBOOK_INTROSPECTION?.filter((role) => role !== 'NOBODY'),
    auditReads: given.SWEEPBOOK_AUDIT_READS,
    auditDays: given.SWEEPBOOK_AUDIT_DAYS,
    graphiql: given.SWEEPBOOK_GRAPHIQL,
    migrate: given.SWEEPBOOK_MIGRATE,
    logLevel: given.SWEEPBOOK_LOG_LEVEL,
    shutdownSeconds: given.SWEEPBOOK_SHUTDOWN_SECONDS,
    limits: limitsOf(given),
    hostname: hostname(),
  });
}

/** A limit whose name is mistyped would not be there, and nobody would know. */
const strangeLimits = (merged: Environment): string[] =>
  Object.keys(merged)
    .filter((name) => name.startsWith('SWEEPBOOK_LIMIT_') && !(name in limitForms))
    .map((name) => `${name}: there is no such limit; "sweepbook config" lists them`);

/** Settings that are a secret as a whole. */
const secrets = new Set(['SWEEPBOOK_WEBHOOK_KEY']);

export interface SettingLine {
  readonly name: string;
  readonly value: string;
  readonly isDefault: boolean;
  readonly description: string;
}

/** All settings as a person reads them; secrets and the password in DATABASE_URL are hidden. */
export function describeConfig(environment: Environment = process.env): SettingLine[] {
  const merged = withFile(environment);
  readConfig(environment);
  return Object.entries(allSettings.shape).map(([name, form]) => {
    const given = merged[name];
    const value = given ?? form.parse(undefined);
    return {
      name,
      value: value === undefined ? '' : secrets.has(name) ? '***' : hideSecrets(String(value)),
      isDefault: given === undefined,
      description: form.description ?? '',
    };
  });
}

/** A text without the passwords that stand in its URLs. */
export function hideSecrets(text: string): string {
  return text.replace(/([a-z]+:\/\/[^:/@\s]*):[^@\s]*@/gi, '$1:***@');
}
