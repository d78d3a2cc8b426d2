drop function atelier.take_lora_path(uuid, text[], text);
drop table public.comfyui_lora_paths;
drop table public.comfyui_lora_models;
drop table public.comfyui_workflows;
drop function atelier.raise_revision();
drop function atelier.are_tags(text[]);
drop function atelier.ensure_owner();
drop table public.comfyui_users;
