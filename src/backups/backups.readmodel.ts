import { visibleFile } from '../access/visibility.ts';
import { askedPage, nodeIdSql, type Reader, type ReadModel } from '../api/read-model.ts';
import { Late } from '../database/late.ts';
import { pageLimits } from '../database/page.ts';
import { sql } from '../database/sql.ts';
import { fileColumns, fileTables } from '../files/files.queries.ts';
import {
  backupColumns,
  backupsPage,
  backupTables,
  firstCopyFirst,
  visibleBackup,
} from './backups.queries.ts';

export const backupModel: ReadModel = {
  columns: [
    'store',
    'status',
    'requestedBy',
    'requestedAt',
    'attempt',
    'failureCount',
    'worker',
    'nextAttemptAt',
    'storeKey',
    'storedSizeBytes',
    'storedAdler32',
    'storedSha256',
    'evidence',
    'confirmLevel',
    'awaitsTapeSince',
    'lastErrorCode',
    'lastError',
    'copiedAt',
    'confirmedAt',
    'updatedAt',
  ],
  fields: {
    id: (record) => ({ value: nodeIdSql('BackupRecord', record.column('id')) }),
    file: (record, _args, { viewer }) => ({
      of: 'File',
      one: {
        select: fileColumns,
        from: fileTables,
        where: sql`f.id = ${record.column('fileId')} and ${visibleFile(viewer)}`,
      },
    }),
  },
};

/** Fields of File that are about its backups. */
export const fileBackupFields: Record<'backups' | 'accessUrl', Reader> = {
  backups: (file, _args, { viewer }) => ({
    of: 'BackupRecord',
    list: {
      select: backupColumns,
      from: backupTables,
      where: sql`b.file_id = ${file.column('id')} and ${visibleBackup(viewer)}`,
      orderBy: sql`b.id`,
    },
  }),
  accessUrl: (file, _args, { stores }) => {
    // A store that was not used yet, or that writes its keys in another way, is for the resolver; and odd keys.
    const prefixes = new Late(() => JSON.stringify(stores.accessUrlPrefixes()));
    const url = sql`select to_json((${prefixes}::jsonb ->> b.store_id::text) || b.store_key)::text as url,
      b.store_key ~ '(^|/)\.{0,2}(/|$)' as odd
      from ${backupTables} where b.file_id = ${file.column('id')} and b.status = 'CONFIRMED'
      order by ${firstCopyFirst} limit 1`;
    return {
      json: sql`case when not ${file.column('isBackedUp')} then 'null'
        else (select case when not odd then url end from (${url}) copy) end`,
    };
  },
};

export const backupRoots: Record<'backupRecords', Reader> = {
  backupRecords: (_row, args, { viewer }) => ({
    of: 'BackupRecord',
    asked: askedPage(args, pageLimits.others),
    page: backupsPage(viewer, args['filter'] ?? {}),
  }),
};
