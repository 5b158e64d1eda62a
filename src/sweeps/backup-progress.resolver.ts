import { Arg, Resolver, Root, Subscription } from 'type-graphql';
import { demand } from '../access/policy.ts';
import type { Context } from '../api/context.ts';
import { closable } from '../api/subscription.ts';
import { BackupProgress } from '../backups/backups.schema.ts';
import { followBackups, type ProgressFilter, type ProgressRow } from './backup-progress.ts';

@Resolver()
export class BackupProgressResolver {
  @Subscription(() => BackupProgress, {
    description:
      'How backups come along: first one item for each that is not finished, then each change of state, and ' +
      'bytes about twice a second while a worker copies. For producers and operators.',
    subscribe: ({ args, context }) => {
      demand((context as Context).viewer, 'readBackups');
      return closable((signal) =>
        followBackups(context as Context, args as ProgressFilter, signal),
      );
    },
  })
  backupProgress(
    @Root() row: ProgressRow,
    @Arg('dataset', () => String, { nullable: true, description: 'Of the files of this dataset.' })
    _dataset: string | null,
    @Arg('lfn', () => String, { nullable: true, description: 'Of this file.' }) _lfn: string | null,
  ): ProgressRow {
    return row;
  }
}
