import type { ReadModels } from '../api/read-model.ts';
import { backupModel, fileBackupFields } from '../backups/backups.readmodel.ts';
import {
  badMarkModel,
  datasetModel,
  datasetRoots,
  fileDatasetFields,
} from '../datasets/datasets.readmodel.ts';
import { fileModel, fileRoots, replicaModel } from '../files/files.readmodel.ts';
import { runModel, runRoots } from '../runs/runs.readmodel.ts';

/** What the fast road reads; all else goes to the resolvers. */
export const readModels: ReadModels = {
  Query: { columns: [], fields: { ...datasetRoots, ...fileRoots, ...runRoots } },
  Dataset: datasetModel,
  BadMark: badMarkModel,
  File: {
    ...fileModel,
    fields: { ...fileModel.fields, ...fileBackupFields, ...fileDatasetFields },
  },
  Replica: replicaModel,
  BackupRecord: backupModel,
  Run: runModel,
};
