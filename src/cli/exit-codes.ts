/** What the command line ends with; documented in docs/cli.md and never renumbered. */
export const exitCode = {
  done: 0,
  failed: 1,
  usage: 2,
  partly: 3,
  notFound: 4,
  tryLater: 5,
  refused: 6,
  notAllowed: 7,
  interrupted: 130,
} as const;

export type ExitCode = (typeof exitCode)[keyof typeof exitCode];

const byCode: Readonly<Record<string, ExitCode>> = {
  NOT_FOUND: exitCode.notFound,
  UNAVAILABLE: exitCode.tryLater,
  STORE_UNAVAILABLE: exitCode.tryLater,
  RATE_LIMITED: exitCode.tryLater,
  NO_SPACE: exitCode.tryLater,
  UNAUTHENTICATED: exitCode.notAllowed,
  FORBIDDEN: exitCode.notAllowed,
  BAD_USER_INPUT: exitCode.usage,
  INVALID_CURSOR: exitCode.usage,
  INTERNAL: exitCode.failed,
  INTERNAL_SERVER_ERROR: exitCode.failed,
  GRAPHQL_VALIDATION_FAILED: exitCode.failed,
  GRAPHQL_PARSE_FAILED: exitCode.failed,
};

/** The exit code for a refusal's code; what is not listed is a rule of the server. */
export function exitCodeOf(code: string): ExitCode {
  return byCode[code] ?? exitCode.refused;
}

/** What ends a command: the line for the person, and the exit code for the script. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exit: ExitCode;
  /** The server's code, where the server refused. */
  readonly code: string | undefined;
  /** When the server would have it asked again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(exit: ExitCode, message: string, code?: string, retryAfterSeconds?: number) {
    super(message);
    this.exit = exit;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Ctrl-C or SIGTERM; the message says how to go on. */
export class Interrupted extends CliError {
  constructor(message = 'interrupted') {
    super(exitCode.interrupted, message);
  }
}

/** The wrong-usage error, for what commander cannot check. */
export function wrongUsage(message: string): CliError {
  return new CliError(exitCode.usage, message);
}

/** A call that may succeed when it is made again. */
export function isTransient(error: unknown): boolean {
  return error instanceof CliError && error.exit === exitCode.tryLater;
}
