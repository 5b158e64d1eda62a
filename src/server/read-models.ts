import type { ReadModels } from '../api/read-model.ts';
import { backupModel, backupRoots, fileBackupFields } from '../backups/backups.readmodel.ts';
import {
  containerModel,
  containerRoots,
  datasetContainerFields,
} from '../containers/containers.readmodel.ts';
import {
  badMarkModel,
  datasetModel,
  datasetRoots,
  fileDatasetFields,
  runDatasetFields,
  runRangeModel,
} from '../datasets/datasets.readmodel.ts';
import { fileModel, fileRoots, replicaModel, runFileFields } from '../files/files.readmodel.ts';
import { runModel, runRoots, verdictModel } from '../runs/runs.readmodel.ts';

/** What the fast road reads; all else goes to the resolvers. */
export const readModels: ReadModels = {
  Query: {
    columns: [],
    fields: { ...datasetRoots, ...fileRoots, ...runRoots, ...backupRoots, ...containerRoots },
  },
  Dataset: { ...datasetModel, fields: { ...datasetModel.fields, ...datasetContainerFields } },
  BadMark: badMarkModel,
  RunRange: runRangeModel,
  File: {
    ...fileModel,
    fields: { ...fileModel.fields, ...fileBackupFields, ...fileDatasetFields },
  },
  Replica: replicaModel,
  BackupRecord: backupModel,
  Run: { ...runModel, fields: { ...runModel.fields, ...runFileFields, ...runDatasetFields } },
  RunVerdictChange: verdictModel,
  Container: containerModel,
};
