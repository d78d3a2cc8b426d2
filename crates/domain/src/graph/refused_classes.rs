//! The classes that are refused unless an operator says otherwise.
//!
//! Names are those of the packs' own tables of classes, as published; a `*` stands where a name is spelt in many ways,
//! or where one word says enough. The list cannot be whole: a class that nobody has heard of may do anything. Who
//! lets strangers in, and installs packs freely, should say what is allowed instead.

/// Classes that are refused for one reason.
#[derive(Debug)]
pub(super) struct RefusedClasses {
    /// Why, in the words of a violation.
    pub(super) reason: &'static str,
    /// Their names, as patterns.
    pub(super) classes: &'static [&'static str],
}

/// All groups, by what their classes do.
pub(super) const REFUSED_CLASSES: &[RefusedClasses] = &[
    RefusedClasses {
        reason: "it runs code that the graph brings",
        classes: RUN_CODE,
    },
    RefusedClasses {
        reason: "it runs what is stored in the data that the graph brings",
        classes: UNPICKLE,
    },
    RefusedClasses {
        reason: "it reads any file or folder of the machine",
        classes: READ_PATHS,
    },
    RefusedClasses {
        reason: "it writes to, or deletes, any file of the machine",
        classes: WRITE_PATHS,
    },
    RefusedClasses {
        reason: "it fetches any address, from within the network of this server",
        classes: FETCH,
    },
    RefusedClasses {
        reason: "it sends data to any address",
        classes: SEND,
    },
    RefusedClasses {
        reason: "it keeps data for, or reads data of, prompts that may be other people's",
        classes: SHARE,
    },
];

/// Interpreters, shells, and expressions that are evaluated as Python (two packs of the latter have CVE-2024-21576
/// and CVE-2024-21577), or that a language model turns into Python.
const RUN_CODE: &[&str] = &[
    "*Python*",
    "*python*",
    "*PyCode*",
    "*Pycode*",
    "*pycode*",
    "*PyExec*",
    "*PyScript*",
    "*CodeExec*",
    "*Shell Code*",
    "*ShellCommand*",
    "*Shell Command*",
    "*RunCommand*",
    "*Run Command*",
    "ACE_ExpressionEval",
    "ACE_Expression_Eval",
    "AdvancedScript",
    "AnyNode*",
    "AutogenCodeExecutor",
    "BuildColorRangeHSVAdvanced",
    "DockerSandboxRunner",
    "EVAL",
    "Eval",
    "EvalFloats",
    "Eval_AS",
    "Evaluate Floats",
    "Evaluate Integers",
    "Evaluate Strings",
    "EvaluateMultiple",
    "Exec",
    "Execute",
    "FL_CodeNode",
    "FilterContour",
    "FindContour",
    "Griptape Run: Code Execution*",
    "HueAdjust",
    "IDENode",
    "MathExpressionNode",
    "NotebookCell",
    "SRL Eval",
    "Script",
    "SrlEval",
    "UtilityExpression",
    "script.py",
    "👾 Evaluate Anything",
];

/// Python's pickles run code when they are read.
const UNPICKLE: &[&str] = &[
    "*Pickle*",
    "*pickle*",
    "Base64ToConditioning",
    "LoadTrainingDataset",
];

/// A path, or a folder whose files are taken as they come. Those of the input folder belong here too: it holds
/// everybody's.
const READ_PATHS: &[&str] = &[
    "*FromDir*",
    "*From Dir*",
    "*FromFolder*",
    "*From Folder*",
    "*FromPath*",
    "*From Path*",
    "*from Path*",
    "*FromFile //Inspire",
    "CR Font File List",
    "CR Load Animation*",
    "CR Load Flow*",
    "CR Load GIF*",
    "CR Load Image*",
    "CR Load Schedule*",
    "CR Load Text*",
    "Create Grid Image",
    "Create Morph Image from Path",
    "Create Video from Path",
    "Image Batch Load*",
    "Image History Loader",
    "Image Load",
    "ImageGrabPIL",
    "JWImageLoad*",
    "JWLoadImage*",
    "Load Batch Images",
    "Load Cache",
    "Load Image Batch",
    "Load Image Sequence (mtb)",
    "Load Text File",
    "LoadBatchImages*",
    "LoadImageBatch",
    "LoadImageFolder*",
    "LoadImageList*",
    "LoadImageSet*",
    "LoadImageTextSet*",
    "LoadImagesPath*",
    "LoadText|pysssss",
    "LoadVideo [n-suite]",
    "LoadVideosFrom*",
    "SD*BatchLoader",
    "ScreenCap_mss",
    "Screencap_mss",
    "Text File History Loader",
    "Text Load Line From File",
    "VHS_LoadAudio",
    "VHS_LoadImagePath",
    "VHS_LoadImages",
    "VHS_LoadImagesPath",
    "VHS_LoadVideoFFmpegPath",
    "VHS_LoadVideoPath",
    "Video Dump Frames",
    "easy imageCount",
    "easy imagesCountInDirectory",
    "easy loadImagesForLoop",
];

/// A path that the graph names. What goes below ComfyUI's output folder by `filename_prefix` is kept in the run's own
/// folder instead.
const WRITE_PATHS: &[&str] = &[
    "*AbsolutePath*",
    "*Absolute Path*",
    "*SaveToPath*",
    "*Save To Path*",
    "*ToLocal",
    "*ToPath",
    "CR Output *",
    "CR Save *",
    "Cache Node",
    "Export API",
    "Image Save",
    "JWImageSaveToPath",
    "JWSaveImageSequence",
    "Save Text File",
    "SaveImageKJ",
    "SaveStringKJ",
    "SaveText|pysssss",
    "SaveVideo [n-suite]",
    "VHS_PruneOutputs",
    "Write to GIF",
    "Write to Video",
    "easy imageSave",
    "easy saveImageLazy",
    "easy saveText",
    "easy saveTextLazy",
];

/// Pictures, models and pages by address: a way into what only this server's network reaches, and models that run
/// code when they are loaded.
const FETCH: &[&str] = &[
    "*FromURL*",
    "*FromUrl*",
    "*From URL*",
    "*From Url*",
    "*from URL*",
    "*from Url*",
    "*from url*",
    "*URLLoader*",
    "*UrlLoader*",
    "*URLImageLoader*",
    "*UrlImageLoader*",
    "*URL Download*",
    "*Downloader*",
    "*Down-Loader*",
    "*HTTPRequest*",
    "*HTTP Request*",
    "*HttpRequest*",
    "*Http Request*",
    "*WebScrap*",
    "CivitAI_*",
    "DownloadModel",
    "HuggingFaceDownload*",
    "Text Parse Noodle Soup Prompts",
    "URLResourceLoader",
];

/// Stores and services of other people's.
const SEND: &[&str] = &[
    "*Webhook*",
    "*WebHook*",
    "*webhook*",
    "*S3API",
    "*OSSUpload*",
    "*Telegram*",
    "Image Send HTTP",
    "SendEmail*",
];

/// What lives in ComfyUI's memory, or in a file beside it, is one for all.
const SHARE: &[&str] = &[
    "CacheBackendData*",
    "RemoveBackendData*",
    "RetrieveBackendData*",
    "ShowCachedInfo //Inspire",
    "Text Add Token by Input",
    "Text Add Tokens",
];
