"""The forms in which a network is timed."""

__all__ = ['FORMS']

FORMS = {  # the engine and the precision of each
    'torch': ('torch', 'fp32'),
    'torch-bf16': ('torch', 'bf16'),
    'torch-fp16': ('torch', 'fp16'),
    'openvino': ('openvino', 'fp32'),
    'openvino-bf16': ('openvino', 'bf16'),
    'onnxruntime': ('onnxruntime', 'fp32'),
}
