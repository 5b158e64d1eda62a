-- In any search path a temporary table stands before ours of the same name. The guards look past it.
do $$
declare
  name text;
begin
  foreach name in array array[
    'refuse(text, text, text)', 'refuse_any_change()', 'events_only_from_triggers()', 'events_in_order()',
    'runs_guard()', 'runs_registered()', 'runs_changed()', 'done_runs(bigint[])', 'refresh_runs(bigint[])',
    'files_guard()', 'files_registered()', 'files_safety_changed()', 'merge_inputs_guard()', 'merge_adds_up()',
    'backup_records_guard()', 'backups_requested()', 'backups_changed()',
    'datasets_guard()', 'dataset_step_allowed(datasets, datasets)', 'dataset_stays_safe()', 'datasets_created()',
    'datasets_changed()', 'dataset_files_changed()', 'bad_marks_guard()', 'sweeps_guard()', 'sweep_seals()']
  loop
    execute format('alter function %s set search_path = %I, pg_temp', name, current_schema());
  end loop;
end
$$;
