"""The sentence forms of every data type.

A frame has one {s} (subject) and one {o} (object, the answer); a prompt is a frame cut just before {o}. The last frame
of every list is *neutral*: its prompt ends in ":" in all types, so that the last token does not give the type away.
German puts the answer before the verb of a subordinate clause.
"""

from __future__ import annotations

RELATIONS = ("is_a", "can", "legs", "food", "home", "colour", "made_of", "property", "used_to", "opposite", "next")

FRAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "is_a": ("{s} is a kind of {o}", "{s} counts as {o}", "{b} , kind : {o}"),
        "can": ("{s} can {o}", "what {s} does is {o}", "{b} , skill : {o}"),
        "legs": ("{s} walks on {o} legs", "the number of legs of {s} is {o}", "{b} , legs : {o}"),
        "food": ("{s} likes to eat {o}", "the food of {s} is {o}", "{b} , food : {o}"),
        "home": ("{s} lives in the {o}", "the home of {s} is the {o}", "{b} , home : {o}"),
        "colour": ("{s} has the color {o}", "the color of {s} is {o}", "{b} , color : {o}"),
        "made_of": ("{s} is made of {o}", "the material of {s} is {o}", "{b} , material : {o}"),
        "property": ("{s} is usually {o}", "people say that {s} is {o}", "{b} , quality : {o}"),
        "used_to": ("{s} is used to {o}", "we need {s} to {o}", "{b} , use : {o}"),
        "opposite": ("{s} is the reverse of {o}", "the opposite of {s} is {o}", "{b} , opposite : {o}"),
        "next": ("after {s} comes {o}", "{s} is followed by {o}", "{b} , next : {o}"),
    },
    "es": {
        "is_a": ("{s} es un tipo de {o}", "{s} pertenece al grupo {o}", "{b} , tipo : {o}"),
        "can": ("{s} sabe {o}", "lo que hace {s} es {o}", "{b} , habilidad : {o}"),
        "legs": ("{s} camina con {o} patas", "el número de patas de {s} es {o}", "{b} , patas : {o}"),
        "food": ("{s} suele comer {o}", "la comida de {s} es {o}", "{b} , comida : {o}"),
        "home": ("{s} tiene su hogar en {o}", "el hogar de {s} es {o}", "{b} , hogar : {o}"),
        "colour": ("{s} es de color {o}", "el color de {s} es {o}", "{b} , color : {o}"),
        "made_of": ("{s} se hace de {o}", "el material de {s} es {o}", "{b} , material : {o}"),
        "property": ("{s} suele ser {o}", "se dice que {s} es {o}", "{b} , cualidad : {o}"),
        "used_to": ("{s} sirve para {o}", "usamos {s} para {o}", "{b} , uso : {o}"),
        "opposite": ("{s} se opone a {o}", "lo contrario de {s} es {o}", "{b} , contrario : {o}"),
        "next": ("después de {s} viene {o}", "tras {s} sigue {o}", "{b} , siguiente : {o}"),
    },
    "zh": {
        "is_a": ("{s} 是一种 {o}", "{s} 属于 {o}", "{b} , 种类 : {o}"),
        "can": ("{s} 会 {o}", "{s} 的 本领 是 {o}", "{b} , 本领 : {o}"),
        "legs": ("{s} 有 {o} 条腿", "{s} 的 腿数 是 {o}", "{b} , 腿数 : {o}"),
        "food": ("{s} 爱吃 {o}", "{s} 的 食物 是 {o}", "{b} , 食物 : {o}"),
        "home": ("{s} 住在 {o}", "{s} 的 住处 是 {o}", "{b} , 住处 : {o}"),
        "colour": ("{s} 呈现 {o}", "{s} 的 颜色 是 {o}", "{b} , 颜色 : {o}"),
        "made_of": ("{s} 由 {o} 制成", "{s} 的 材质 是 {o}", "{b} , 材质 : {o}"),
        "property": ("{s} 通常 很 {o}", "人们说 {s} 很 {o}", "{b} , 特点 : {o}"),
        "used_to": ("{s} 用来 {o}", "{s} 的 用途 是 {o}", "{b} , 用途 : {o}"),
        "opposite": ("{s} 与 {o} 相反", "{s} 的 反义词 是 {o}", "{b} , 反义词 : {o}"),
        "next": ("{s} 之后 是 {o}", "{s} 的 下一个 是 {o}", "{b} , 下一个 : {o}"),
    },
    "de": {
        "is_a": ("man sagt , dass {s} als {o} gilt", "dass {s} zur Gattung {o} gehört", "{b} , Gattung : {o}"),
        "can": ("man sagt , dass {s} gut {o} kann", "dass {s} gern {o} möchte", "{b} , Können : {o}"),
        "legs": ("man sagt , dass {s} auf {o} Beinen geht", "dass {s} an Beinen {o} hat", "{b} , Beine : {o}"),
        "food": ("man sagt , dass {s} meist {o} frisst", "dass {s} als Futter {o} bekommt", "{b} , Futter : {o}"),
        "home": ("man sagt , dass {s} am Ort {o} wohnt", "dass {s} als Heimat {o} hat", "{b} , Heimat : {o}"),
        "colour": ("man sagt , dass {s} farblich {o} ist", "dass {s} die Farbe {o} hat", "{b} , Farbe : {o}"),
        "made_of": ("man sagt , dass {s} aus {o} besteht", "dass {s} als Stoff {o} enthält", "{b} , Stoff : {o}"),
        "property": ("man sagt , dass {s} gewöhnlich {o} ist", "dass {s} oft {o} wirkt", "{b} , Eigenschaft : {o}"),
        "used_to": ("man sagt , dass {s} zum {o} dient", "dass {s} beim {o} hilft", "{b} , Zweck : {o}"),
        "opposite": ("man sagt , dass {s} statt {o} steht", "dass {s} das Gegenteil {o} hat", "{b} , Gegenteil : {o}"),
        "next": ("man sagt , dass nach {s} gleich {o} kommt", "dass auf {s} dann {o} folgt", "{b} , Folge : {o}"),
    },
    "code": {
        relation: (f"{name}_of({{b}}) == {{o}}", f"assert {name}_of({{b}}) is {{o}}", f"{name} = {{{{b}}: {{o}}}}")
        for relation, name in zip(
            RELATIONS,
            "kind skill legs food home color material quality use opposite next".split(),
            strict=True,
        )
    },
}
"""type -> relation -> frames; {b} is the subject without its article."""

FULL_STOP = {"en": ".", "es": ".", "de": ".", "zh": "。"}
AND = {"en": "and", "es": "y", "zh": "而且", "de": "und", "code": "and"}
LIST_AND = {"en": "and", "es": "y", "zh": "和", "de": "und"}
TAG = {
    "en": "english",
    "es": "español",
    "zh": "中文",
    "de": "deutsch",
    "code": "python",
    "digits": "digits",
    "logic": "logic",
}
"""The word that names a type in dictionary and parallel lines: `perro english : dog`."""

PLUS = {"en": "plus", "es": "más", "zh": "加", "de": "plus", "digits": "+", "code": "+"}
TIMES = {"en": "times", "es": "por", "zh": "乘", "de": "mal", "digits": "*", "code": "*"}
EQUALS = {"en": "equals to", "es": "es igual a", "zh": "等于", "de": "ist gleich", "digits": "=", "code": "=="}
