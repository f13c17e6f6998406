"""Makes a whisper model of a few weights for CTranslate2, whose transcript is known.

Every layer adds nothing, so what a step of the decoder says depends on its position alone: the position encodings are unit
vectors, and the projection has a large weight from the position to the token that is to come. Whatever is heard, it is
``SAID``, in ``LANGUAGE`` when it has to find that out.
"""

import numpy as np
import tokenizers
from ctranslate2 import specs
from faster_whisper.tokenizer import _LANGUAGE_CODES

SAID = "good morning"
LANGUAGE = "de"
_SIZE = 16
_MELS = 80
_POSITIONS = 448
_FRAMES = 1500

_WORDS = SAID.split()
_MARKS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in _LANGUAGE_CODES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
    *(f"<|{step * 0.02:.2f}|>" for step in range(1501)),
]
# CTranslate2 takes a vocabulary with an empty token for that of a model of many languages.
_TOKENS = [*_WORDS, "", *_MARKS]
_VOCABULARY = len(_TOKENS)
_IDS = {token: number for number, token in enumerate(_TOKENS)}

# What is predicted at each position; the prompt is the start, the language and the task.
_ANSWERS = [f"<|{LANGUAGE}|>", "", "<|0.00|>", "good", "morning", "<|1.00|>", "<|endoftext|>"]


def make_whisper(folder):
    """Write the model's files into a folder, which is made; return its path."""
    folder.mkdir(parents=True)
    spec = specs.WhisperSpec(1, 1, 1, 1)
    spec._visit(_set_weight)
    spec.encoder.position_encodings.encodings = np.zeros((_FRAMES, _SIZE), np.float32)
    positions = np.zeros((_POSITIONS, _SIZE), np.float32)
    positions[np.arange(_POSITIONS), np.minimum(np.arange(_POSITIONS), _SIZE - 1)] = 1
    spec.decoder.position_encodings.encodings = positions
    projection = np.zeros((_VOCABULARY, _SIZE), np.float32)
    for position, token in enumerate(_ANSWERS):
        if token:
            projection[_IDS[token], position] = 10
    projection[_IDS["<|endoftext|>"], len(_ANSWERS) :] = 10
    spec.decoder.projection.weight = projection
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [_IDS[f"<|{code}|>"] for code in _LANGUAGE_CODES]
    spec.config.alignment_heads = [[0, 0]]
    spec.register_vocabulary(_TOKENS)
    spec.validate()
    spec.save(str(folder))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(_IDS, unk_token=""))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


_SHAPES = {
    "encoder/conv1/weight": (_SIZE, _MELS, 3),
    "encoder/conv2/weight": (_SIZE, _SIZE, 3),
    "decoder/embeddings/weight": (_VOCABULARY, _SIZE),
    "encoder/layer_0/self_attention/linear_0/weight": (3 * _SIZE, _SIZE),
    "decoder/layer_0/self_attention/linear_0/weight": (3 * _SIZE, _SIZE),
    "decoder/layer_0/attention/linear_1/weight": (2 * _SIZE, _SIZE),
    "encoder/layer_0/ffn/linear_0/weight": (4 * _SIZE, _SIZE),
    "decoder/layer_0/ffn/linear_0/weight": (4 * _SIZE, _SIZE),
    "encoder/layer_0/ffn/linear_1/weight": (_SIZE, 4 * _SIZE),
    "decoder/layer_0/ffn/linear_1/weight": (_SIZE, 4 * _SIZE),
}


def _set_weight(spec, name, value):
    """Give a layer's required weights zeros, and its norm ones: what goes in comes out."""
    if value is not None:
        return
    end = name.rpartition("/")[2]
    if end == "gamma":
        spec.gamma = np.ones(_SIZE, np.float32)
    elif end == "beta":
        spec.beta = np.zeros(_SIZE, np.float32)
    else:
        setattr(spec, end, np.zeros(_SHAPES.get(name, (_SIZE, _SIZE)), np.float32))
