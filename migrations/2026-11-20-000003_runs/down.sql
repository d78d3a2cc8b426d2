drop table public.comfyui_run_outputs;
drop table public.comfyui_run_events;
drop table public.comfyui_workflow_runs;
