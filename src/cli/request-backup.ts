import type { Context } from './command.ts';
import type { CliError } from './exit-codes.ts';
import { complain } from './print.ts';
import { faultOf, inCalls, type ItemAnswer } from './register.ts';

const query = `mutation Request($input: RequestBackupInput!) {
  requestBackup(input: $input) {
    results {
      index lfn outcome error { code message }
      record { status }
      upload { store path }
    }
  }
}`;

interface Upload {
  readonly store: string;
  readonly path: string;
}

interface Answer {
  readonly requestBackup: {
    readonly results: readonly (ItemAnswer & {
      readonly record: { readonly status: string } | null;
      readonly upload: Upload | null;
    })[];
  };
}

interface Requested {
  /** By LFN; said on stderr already. */
  readonly faults: ReadonlyMap<string, CliError>;
  /** By LFN: where the caller copies the file to; only with `direct`, and only what is not confirmed. */
  readonly uploads: ReadonlyMap<string, Upload>;
}

/** Asks for the backup of registered files; what is asked for or confirmed already stays so. */
export async function requestBackups(
  { client }: Context,
  lfns: readonly string[],
  store: string | undefined,
  direct: boolean,
): Promise<Requested> {
  const faults = new Map<string, CliError>();
  const uploads = new Map<string, Upload>();
  for (const call of inCalls(lfns)) {
    const input = { lfns: call, store, direct };
    const { requestBackup } = await client.call<Answer>(query, { input });
    for (const item of requestBackup.results) {
      if (item.outcome === 'REFUSED') {
        const fault = faultOf(item);
        complain(fault.message);
        faults.set(item.lfn, fault);
      } else if (item.upload !== null && item.record?.status !== 'CONFIRMED') {
        uploads.set(item.lfn, item.upload);
      }
    }
  }
  return { faults, uploads };
}
