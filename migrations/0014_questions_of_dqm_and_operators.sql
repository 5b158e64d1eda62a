-- Indexes behind what DQM follows and what operators look for.

-- runsAvailable: the log has a line for every file, and few of runs.
create index events_of_available_runs on events (xid, id) where kind = 'RUN_STATUS' and to_state = 'AVAILABLE';
-- Run.verdicts: a run's lines are mostly of its files.
create index events_of_verdicts on events (run_id, xid, id) where kind = 'RUN_VERDICT';
-- goodRuns
create index runs_good on runs (source, number) where verdict = 'GOOD';

-- stuck: each list is as long as the trouble, however much is well.
create index sweeps_running on sweeps (requested_at, id) where finished_at is null;
create index backup_records_given_up on backup_records (updated_at, id)
  include (status, store_id, last_error_code, file_id) where status in ('FAILED', 'LOST');
create index backup_records_retried on backup_records (updated_at, id)
  where status in ('REQUESTED', 'COPYING', 'COPIED') and failure_count > 0;
create index backup_records_waiting on backup_records (requested_at, id) where status in ('REQUESTED', 'COPYING', 'COPIED');
create index datasets_unfinished on datasets (created_at, id) where status <> 'CLOSED';
create index bad_marks_by_time on bad_marks (marked_at, id) where cleared_at is null;
