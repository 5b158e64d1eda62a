import { AwayStore } from './away-store.ts';
import type { MassStore, StoreSettings } from './contract.ts';
import { CommandTool } from './command.ts';
import { DirectoryStore } from './directory.ts';
import { HpssTool } from './hpss.ts';
import type { S3Store } from './s3.ts';
import type { S3Settings } from './s3-settings.ts';
import type { StoreSettingsOfFile } from './store-file.ts';
import { auditSettings, type AuditSettings } from './store-settings.ts';
import { TapeRestStore } from './tape-rest.ts';
import { ToolStore } from './tool-store.ts';
import { WebDavStore } from './webdav-store.ts';
import { XrootdStore } from './xrootd.ts';

let s3: ((settings: S3Settings) => S3Store) | undefined;

/** Loads what only some kinds need: the SDK of S3 would cost each start a quarter of a second. */
export async function loadDrivers(stores: readonly StoreSettingsOfFile[]): Promise<void> {
  if (s3 || !stores.some((store) => store.kind === 's3')) return;
  const { S3Store: Driver } = await import('./s3.ts');
  s3 = (settings) => new Driver(settings);
}

/** The driver of a store as the store file has it; one kind, one driver. */
function driverOf(settings: StoreSettingsOfFile): MassStore {
  switch (settings.kind) {
    case 'directory':
      return new DirectoryStore({ ...settings, urlPrefix: settings.accessUrlPrefix });
    case 'xrootd':
      return new XrootdStore(settings);
    case 's3':
      if (!s3) throw new Error('the driver of S3 was not loaded');
      return s3(settings);
    case 'command':
      return new ToolStore(settings, new CommandTool(settings));
    case 'hpss':
      return new ToolStore(settings, new HpssTool(settings));
    case 'tape-rest':
      return new TapeRestStore(settings);
    case 'webdav':
      return new WebDavStore(settings);
  }
}

function openMassStore(row: StoreSettings, settings: StoreSettingsOfFile | undefined): MassStore {
  if (settings?.kind === row.kind) return driverOf(settings);
  // The folder of the first start stands in no file.
  if (!settings && row.kind === 'directory') return new DirectoryStore(row);
  return new AwayStore(row, settings ? `is of the kind ${settings.kind} there` : 'is not in it');
}

/** The drivers of the stores, made once each. */
export class OpenStores {
  private readonly open = new Map<number, MassStore>();
  private readonly configured: ReadonlyMap<string, StoreSettingsOfFile>;

  constructor(configured: readonly StoreSettingsOfFile[] = []) {
    this.configured = new Map(configured.map((store) => [store.name, store]));
  }

  of(settings: StoreSettings & { readonly id: number }): MassStore {
    const known = this.open.get(settings.id);
    if (known) return known;
    const made = openMassStore(settings, this.configured.get(settings.name));
    this.open.set(settings.id, made);
    return made;
  }
  /** When and how the store of this name is audited. */
  auditOf(name: string): AuditSettings {
    return this.configured.get(name)?.audit ?? auditSettings.parse({});
  }

  /** By row number: what stands before a plain key in the access URLs of the stores that were used so far. */
  accessUrlPrefixes(): Record<number, string> {
    const found: Record<number, string> = {};
    for (const [id, { accessUrlPrefix }] of this.open) {
      if (accessUrlPrefix !== undefined) found[id] = accessUrlPrefix;
    }
    return found;
  }
}
