"""Knowledge distillation from a float teacher to a quantized student."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops, tree

from qframe import keras_internals
from qframe.errors import ArgumentError, NotBuiltError
from qframe.validation import boolean, finite_number


def distill(
    student: Any,
    teacher: Any,
    *,
    temperature: float = 4.0,
    alpha: float = 0.5,
    from_logits: bool = False,
) -> Any:
    r"""A model that trains a student towards the outputs of a teacher.

    .. math:: L = \alpha \, L_{compiled} + (1 - \alpha) \, T^2 \,
        \mathrm{KL}(p_{teacher}^{(T)} \,\|\, p_{student}^{(T)})

    p\ :sup:`(T)` are the probabilities softened by the temperature: the softmax of the
    logits divided by T. For several outputs the divergences are added.

    Compile and fit it like any model. It predicts and evaluates like the student; `save`
    and `save_weights` write only the student. The teacher runs in inference mode and does
    not change.

    Args:
        student: the model to train, built; quantized or not.
        teacher: a built model with the same inputs and outputs, such as the float twin.
        temperature: T. Default 4.0.
        alpha: the weight of the compiled loss, from 0 to 1, which includes weight decay
            and other added losses. Default 0.5.
        from_logits: whether both models return logits; by default they return
            probabilities, as after a softmax.

    Returns:
        A `keras.Model`; its ``student`` is the student.

    Raises:
        ArgumentError: the outputs differ in structure or shape, or an argument is invalid.
        NotBuiltError: a model is not built.

    Example:
        >>> import keras, numpy as np, qframe as qf
        >>> def network(**arguments):
        ...     dense = qf.layers.QuantDense(3, activation="softmax", **arguments)
        ...     return keras.Sequential([keras.Input((4,)), dense])
        >>> student = network(kernel_quantizer="dorefa(mode='weights')")
        >>> model = qf.distill(student, teacher=network())
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> history = model.fit(np.ones((8, 4)), np.zeros(8), verbose=0)

    Paper: Hinton et al., 2015, https://arxiv.org/abs/1503.02531
    """
    for role, model in (("student", student), ("teacher", teacher)):
        if not isinstance(model, keras.Model):
            raise ArgumentError(f"the {role} must be a keras.Model, found {model!r}.")
        if not model.built:
            raise NotBuiltError(
                f"the {role} {model.name!r} is not built. Call it once: model(inputs)."
            )
    if student is teacher:
        raise ArgumentError(
            "the student and the teacher are the same model. Clone it before it is "
            "quantized: keras.models.clone_model(model), then set_weights."
        )
    temperature = finite_number("distill", "temperature", temperature)
    number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not number or not 0 <= alpha <= 1:
        raise ArgumentError(f"alpha of distill must be from 0 to 1, found {alpha!r}.")
    _check_outputs(_outputs(student), _outputs(teacher))
    from_logits = boolean("distill", "from_logits", from_logits)
    return Distiller(student, teacher, temperature, float(alpha), from_logits)


def _outputs(model: Any) -> Any:
    """The shapes of the outputs; None if they depend on a call."""
    return getattr(model, "output_shape", None)


def _check_outputs(student: Any, teacher: Any) -> None:
    if student is not None and teacher is not None and student != teacher:
        raise ArgumentError(
            f"a teacher has the outputs of its student, but the student has {student} and "
            f"the teacher has {teacher}. Give both the same last layer."
        )


def _mode(model: Any, training: Any) -> dict[str, Any]:
    return {"training": training} if keras_internals.takes_training(model) else {}


class Distiller(keras.Model):
    """The model that `distill` returns."""

    def __init__(
        self,
        student: Any,
        teacher: Any,
        temperature: float,
        alpha: float,
        from_logits: bool,
    ) -> None:
        super().__init__(name=f"distilled_{student.name}")
        self.student = student
        # In a partial, since Keras would train and save an attribute that is a layer.
        self._targets = functools.partial(teacher, **_mode(teacher, False))
        self._soft = SoftTargets(temperature, from_logits)
        self.alpha = alpha
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.student(inputs, **_mode(self.student, training))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(x, y, y_pred, sample_weight)
        if not training:
            return loss
        targets = tree.map_structure(ops.stop_gradient, self._targets(x))
        shapes = (
            tree.map_structure(lambda t: tuple(t.shape), t) for t in (y_pred, targets)
        )
        _check_outputs(*shapes)
        pairs = list(zip(tree.flatten(targets), tree.flatten(y_pred), strict=True))
        weights = tree.flatten(sample_weight)
        if len(weights) != len(pairs):
            weights = [sample_weight] * len(pairs)
        soft = sum(
            self._soft(*pair, sample_weight=w)
            for pair, w in zip(pairs, weights, strict=True)
        )
        return self.alpha * loss + (1 - self.alpha) * soft

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the student."""
        return self.student.save(filepath, *args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the weights of the student."""
        return self.student.save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Load the weights of the student."""
        return self.student.load_weights(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        raise ArgumentError(
            f"{self.name!r} is for training and has no config. Save or clone its student: "
            "model.student."
        )


class SoftTargets(keras.losses.Loss):
    """T² times the divergence of the softened probabilities of each example."""

    def __init__(self, temperature: float, from_logits: bool) -> None:
        super().__init__(name="soft_targets")
        self.temperature = temperature
        self.from_logits = from_logits

    def _log_probabilities(self, outputs: Any) -> Any:
        outputs = ops.cast(outputs, "float32")
        if not self.from_logits:
            # Logits up to a constant, which softmax ignores.
            outputs = ops.log(outputs + keras.config.epsilon())
        return ops.log_softmax(outputs / self.temperature, axis=-1)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        teacher, student = map(self._log_probabilities, (y_true, y_pred))
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence
