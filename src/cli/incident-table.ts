import { counted, humanBytes, renderTable, type Column } from './table.ts';
import { visible } from '../text.ts';

/** What a loss hits. */
export interface Loss {
  readonly itemCount: number;
  readonly safeCount: number;
  readonly recoverableCount: number;
  readonly lostCount: number;
  readonly lostFileCount: number;
  readonly lostBytes: number;
  readonly runCount: number;
  readonly lostRunCount: number;
  readonly lostRuns: readonly { readonly source: string; readonly numbers: string }[];
  readonly datasetCount: number;
  readonly markedDatasetCount: number;
  readonly containerCount: number;
  readonly ownerCount: number;
  readonly derivedCount: number;
  readonly derivedDatasetCount: number;
  readonly items: readonly {
    readonly finding: string;
    readonly lfn: string;
    readonly sizeBytes: number;
    readonly place: string;
    readonly path: string;
  }[];
  readonly datasets: readonly {
    readonly name: string;
    readonly owner: string;
    readonly status: string;
    readonly fileCount: number;
    readonly hitCount: number;
    readonly lostCount: number;
    readonly unbackedCount: number;
    readonly isMarked: boolean;
  }[];
  readonly owners: readonly {
    readonly owner: string;
    readonly datasetCount: number;
    readonly markedCount: number;
    readonly lostCount: number;
  }[];
  readonly containers: readonly {
    readonly name: string;
    readonly owner: string;
    readonly datasetCount: number;
    readonly markedCount: number;
    readonly lostCount: number;
  }[];
  readonly derived: readonly {
    readonly lfn: string;
    readonly generation: number;
    readonly lostInputCount: number;
    readonly inputCount: number;
    readonly isLost: boolean;
    readonly datasets: readonly string[];
  }[];
  readonly derivedDatasets: readonly {
    readonly name: string;
    readonly owner: string;
    readonly fileCount: number;
    readonly derivedCount: number;
    readonly isMarked: boolean;
  }[];
}

export interface Report extends Loss {
  readonly incident: { readonly number: number } | null;
  readonly changed: boolean;
  readonly dryRun: boolean;
  readonly alreadyLostCount: number;
  readonly unknownCount: number;
  readonly unknown: readonly string[];
}

export const tableFields = `itemCount safeCount recoverableCount lostCount fileCount lostFileCount lostBytes
  runCount lostRunCount lostRuns { source numbers } datasetCount markedDatasetCount containerCount ownerCount
  derivedCount derivedDatasetCount
  items { finding lfn sizeBytes place path }
  datasets { name owner status backupWaived fileCount hitCount lostCount unbackedCount isMarked }
  containers { name owner datasetCount markedCount lostCount }
  owners { owner datasetCount markedCount lostCount }
  derived { lfn generation lostInputCount inputCount isLost datasets }
  derivedDatasets { name owner fileCount derivedCount isMarked }`;

/** Lines of each list on a terminal; --json and "incident show" have all. */
const mostShown = 20;

/** The report as people read it: the same for preview and report, but for the last line. */
export function textOfReport(loss: Report): string {
  const lines = [
    `${counted(loss.itemCount, 'copy').replace(/copys$/, 'copies')} hit: ${loss.safeCount} safe, ` +
      `${loss.recoverableCount} recoverable, ${loss.lostCount} lost ` +
      `(${counted(loss.lostFileCount, 'file')}, ${humanBytes(loss.lostBytes)})`,
    `${counted(loss.datasetCount, 'dataset')} hit, ${loss.markedDatasetCount} marked bad, of ${counted(loss.ownerCount, 'owner')}, in ${counted(loss.containerCount, 'container')}`,
    `${counted(loss.runCount, 'run')} hit, ${loss.lostRunCount} with lost data` +
      loss.lostRuns.map((of) => `; ${of.source} ${of.numbers.slice(0, 200)}`).join(''),
    ...(loss.alreadyLostCount > 0 ? [`${loss.alreadyLostCount} were lost before`] : []),
    ...(loss.unknownCount > 0
      ? [
          `${loss.unknownCount} unknown: ${loss.unknown.slice(0, mostShown).map(visible).join(', ')}`,
        ]
      : []),
  ];
  return `${lines.join('\n')}\n${textOfTables(loss)}${ending(loss)}\n`;
}

const yesNo = (is: boolean) => (is ? 'yes' : 'no');

/** Its lists, each with its first lines. */
export function textOfTables(loss: Loss): string {
  const items = loss.items.filter((item) => item.finding !== 'SAFE');
  return [
    list(items, loss.recoverableCount + loss.lostCount, [
      { title: 'FOUND', value: (row) => row.finding },
      { title: 'FILE', value: (row) => row.lfn },
      { title: 'SIZE', value: (row) => humanBytes(row.sizeBytes), align: 'right' },
      { title: 'PLACE', value: (row) => row.place },
      { title: 'PATH', value: (row) => row.path },
    ]),
    list(loss.datasets, loss.datasetCount, [
      { title: 'DATASET', value: (row) => row.name },
      { title: 'OWNER', value: (row) => row.owner },
      { title: 'STATUS', value: (row) => row.status },
      { title: 'FILES', value: (row) => row.fileCount, align: 'right' },
      { title: 'HIT', value: (row) => row.hitCount, align: 'right' },
      { title: 'LOST', value: (row) => row.lostCount, align: 'right' },
      { title: 'NO BACKUP', value: (row) => row.unbackedCount, align: 'right' },
      { title: 'BAD', value: (row) => yesNo(row.isMarked) },
    ]),
    list(loss.containers, loss.containerCount, [
      { title: 'CONTAINER', value: (row) => row.name },
      { title: 'OWNER', value: (row) => row.owner },
      { title: 'DATASETS HIT', value: (row) => row.datasetCount, align: 'right' },
      { title: 'BAD', value: (row) => row.markedCount, align: 'right' },
      { title: 'LOST FILES', value: (row) => row.lostCount, align: 'right' },
    ]),
    // One owner stands beside his datasets already.
    list(loss.ownerCount > 1 ? loss.owners : [], loss.ownerCount, [
      { title: 'OWNER', value: (row) => row.owner },
      { title: 'DATASETS HIT', value: (row) => row.datasetCount, align: 'right' },
      { title: 'BAD', value: (row) => row.markedCount, align: 'right' },
      { title: 'LOST FILES', value: (row) => row.lostCount, align: 'right' },
    ]),
    list(loss.derived, loss.derivedCount, [
      { title: 'MADE FROM LOST FILES', value: (row) => row.lfn },
      { title: 'GENERATION', value: (row) => row.generation, align: 'right' },
      { title: 'LOST INPUTS', value: (row) => `${row.lostInputCount} of ${row.inputCount}` },
      { title: 'LOST ITSELF', value: (row) => yesNo(row.isLost) },
      { title: 'IN DATASETS', value: (row) => row.datasets.join(', ') },
    ]),
    list(loss.derivedDatasets, loss.derivedDatasetCount, [
      { title: 'HOLDS SUCH FILES', value: (row) => row.name },
      { title: 'OWNER', value: (row) => row.owner },
      { title: 'FILES', value: (row) => `${row.derivedCount} of ${row.fileCount}` },
      { title: 'BAD', value: (row) => yesNo(row.isMarked) },
    ]),
  ].join('');
}

function list<Row>(rows: readonly Row[], all: number, columns: readonly Column<Row>[]): string {
  const shown = rows.slice(0, mostShown);
  if (shown.length === 0) return '';
  const rest = all - shown.length;
  const more = rest > 0 ? `… and ${rest} more: --json, or "incident show"\n` : '';
  return `\n${renderTable(shown, columns)}${more}`;
}

function ending(loss: Report): string {
  if (loss.dryRun) {
    return loss.itemCount === 0
      ? '\nnothing would be changed'
      : '\nnothing was changed: with --yes it is reported';
  }
  if (loss.changed) {
    return `\nincident ${loss.incident?.number} is OPEN: "sweepbook incident recover ${loss.incident?.number}" brings back what can be`;
  }
  return loss.incident === null
    ? '\nnothing was hit, nothing was changed'
    : `\nnothing was changed: incident ${loss.incident.number} tells of it already`;
}
