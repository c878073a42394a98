"""The kinds of values that an option can have, each with its name in messages and in docs/options.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Kind:
    """Gives a type its name: a value of another type is an error of type ``wanted`` with the name in its context."""

    name: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise wanted(self.name) from None


@dataclass(frozen=True)
class ListKind(Kind):
    """As :class:`Kind`, of a list; what is wrong in one of its entries is said of that entry."""

    def _check(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, list):
            raise wanted(self.name)
        return validate(value)


def wanted(name: str) -> PydanticCustomError:
    return PydanticCustomError('wanted', 'wanted', {'name': name})


Text = Annotated[str, Strict(), Kind('a string')]
Texts = Annotated[list[Text], Kind('a list of strings')]
Folder = Annotated[str, Strict(), Kind('the path of one folder or LMDB')]
Folders = Annotated[
    Annotated[str, Strict()] | Annotated[list[Annotated[str, Strict()]], Field(min_length=1)],
    Kind('the path of a folder or LMDB, or a list of paths'),
]
Flag = Annotated[bool, Strict(), Kind('true or false')]
Number = Annotated[float, Strict(), AllowInfNan(False), Kind('a number')]
Positive = Annotated[float, Strict(), AllowInfNan(False), Field(gt=0), Kind('a number above 0')]
Numbers = Annotated[list[Number], Kind('a list of numbers')]
Share = Annotated[float, Strict(), Field(ge=0, le=1), Kind('a number from 0 to 1')]
Whole = Annotated[int, Strict(), Kind('a whole number')]
Natural = Annotated[int, Strict(), Field(ge=0), Kind('a whole number from 0')]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**31), Kind('a whole number from 0 to 2147483647')]
Count = Annotated[int, Strict(), Field(ge=1), Kind('a whole number from 1')]
Seconds = Annotated[int, Strict(), Field(ge=1, le=10**9), Kind('a whole number from 1 to 1000000000')]
Workers = Annotated[int, Strict(), Field(ge=0, le=256), Kind('a whole number from 0 to 256')]
# an iteration count may be written 5e3, or !!float 5e3 as in BasicSR's files
Iterations = Annotated[float, Strict(), AllowInfNan(False), Field(ge=1, multiple_of=1), Kind('a whole number from 1')]
Steps = Kind('iterations, each with the value that is used from then on, such as {5000: 128}')
GPUs = Annotated[Literal['auto'] | Natural, Kind('auto or a whole number from 0')]


def _by_name(value: Any) -> Any:
    if not isinstance(value, dict):
        raise wanted('a section of keys')
    return {str(name): section for name, section in value.items()}


ByName = BeforeValidator(_by_name)  # of sections under names of the user's


def key(meaning: str, default: Any = ..., models: tuple[str, ...] = ()) -> Any:
    """A key of a section.

    Args:
        meaning: phrase for docs/options.md.
        default: filled in where the key is not given; None: nothing is. Without one the key is needed.
        models: names of the model classes that read it, with their subclasses; none: all of them.
    """
    return Field(default, description=meaning, json_schema_extra={'read by': list(models)} if models else None)


class Section(BaseModel):
    """A section whose keys are its fields; null stands for 'not given'."""

    model_config = ConfigDict(extra='forbid', protected_namespaces=())  # model_type: older pydantic warns of the name

    @model_validator(mode='before')
    @classmethod
    def _given(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            raise wanted('a section of keys')
        return {str(name): value for name, value in section.items() if value is not None}


class Registered(Section):
    """A section of a registered class: its other keys are keywords of that class's constructor, checked there."""

    model_config = ConfigDict(extra='allow')
    type: Annotated[Any, Field(json_schema_extra={'type': 'string'})] = key('name of the class')
