drop function atelier.finish_run(uuid, uuid, text, json, json);
drop function atelier.claim_run(uuid, text, text, interval);
drop trigger comfyui_workflow_runs_announce on public.comfyui_workflow_runs;
drop trigger comfyui_workflow_runs_change on public.comfyui_workflow_runs;
drop function atelier.announce_run();
drop function atelier.record_run_change();
drop index public.comfyui_users_waiting_idx;
