"""Labelling configs as people write them, each with what a click on a disk is answered with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A config, where somebody clicks, and in which control the answer has to be."""

    xml: str
    point: str = "kp"
    to_name: str = "image"
    label: str = "Cell"
    answer: tuple[str, ...] = ("brushlabels mask",)
    said: str = "Cell"
    more: dict[str, Any] = field(default_factory=dict)


_POINTS = '<KeyPointLabels name="kp" toName="image"><Label value="Cell"/></KeyPointLabels>'
_BRUSH = '<BrushLabels name="mask" toName="image"><Label value="Cell"/></BrushLabels>'
_SHARED = ("brush mask", "labels lab")

CASES = {
    "nested views with styles": Case(
        """<View style="display:flex"><Style>.a { color: red }</Style>
        <View style="flex:1" className="a"><Header value="Cells &amp; debris" size="4"/><View>
        <Image name="image" value="$image" zoom="true" zoomControl="true" rotateControl="true"/>
        </View></View><View style="flex:0"><BrushLabels name="mask" toName="image">
        <Label value="Cell" background="#f00"/><Label value="Debris" background="blue"/>
        </BrushLabels><KeyPointLabels name="kp" toName="image" smart="true">
        <Label value="Cell" hotkey="1"/><Label value="Debris" hotkey="2"/></KeyPointLabels>
        </View></View>""",
        label="Debris",
        said="Debris",
    ),
    "two pictures": Case(
        """<View><Image name="left" value="$image"/><Image name="right" value="$other"/>
        <BrushLabels name="l" toName="left"><Label value="Cell"/></BrushLabels>
        <KeyPointLabels name="lk" toName="left"><Label value="Cell"/></KeyPointLabels>
        <BrushLabels name="r" toName="right"><Label value="Cell"/></BrushLabels>
        <KeyPointLabels name="rk" toName="right"><Label value="Cell"/></KeyPointLabels></View>""",
        point="rk",
        to_name="right",
        answer=("brushlabels r",),
    ),
    "controls of two pictures": Case(
        """<View><Image name="a" value="$image"/><Image name="b" value="$other"/>
        <KeyPointLabels name="kp" toName="a,b"><Label value="Cell"/></KeyPointLabels>
        <BrushLabels name="mask" toName="a,b"><Label value="Cell"/></BrushLabels></View>""",
        to_name="b",
    ),
    "one label list, every shape": Case(
        """<View><Image name="image" value="$image"/><Labels name="lab" toName="image"
        choice="multiple" showInline="true"><Label value="Cell"/><Label value="Debris"/></Labels>
        <KeyPoint name="kp" toName="image"/><Rectangle name="rect" toName="image"/><Polygon
        name="poly" toName="image"/><Brush name="mask" toName="image"/><Ellipse name="ell"
        toName="image"/></View>""",
        answer=_SHARED,
    ),
    "two label lists and a filter": Case(
        """<View><Image name="image" value="$image"/><Filter name="f" toName="lab"/>
        <Labels name="lab" toName="image"><Label value="Cell"/></Labels><Labels name="stage"
        toName="image"><Label value="young"/></Labels><KeyPoint name="kp" toName="image"/>
        <Brush name="mask" toName="image"/></View>""",
        answer=_SHARED,
    ),
    "shown only where something is chosen": Case(
        f"""<View><Image name="image" value="$image"/><Choices name="ok" toName="image"
        required="true"><Choice value="good" alias="g"/><Choice value="bad"/></Choices>
        <View visibleWhen="choice-selected" whenTagName="ok" whenChoiceValue="good">{_BRUSH}
        {_POINTS}</View><View visibleWhen="region-selected"><Choices name="kind" toName="image"
        perRegion="true"><Choice value="round"/></Choices><TextArea name="note" toName="image"
        perRegion="true"/><Rating name="stars" toName="image" perRegion="true"/></View></View>"""
    ),
    "a repeater": Case(
        """<View><Repeater on="$scans" indexFlag="{{idx}}" mode="pagination">
        <Image name="page_{{idx}}" value="$scans[{{idx}}].url"/>
        <BrushLabels name="m_{{idx}}" toName="page_{{idx}}"><Label value="Cell"/></BrushLabels>
        <KeyPointLabels name="kp_{{idx}}" toName="page_{{idx}}"><Label value="Cell"/>
        </KeyPointLabels></Repeater></View>""",
        point="kp_1",
        to_name="page_1",
        answer=("brushlabels m_1",),
    ),
    "pages": Case(
        f'<View><Image name="image" valueList="$images"/>{_BRUSH}{_POINTS}</View>',
        more={"item_index": 1},
    ),
    "a value within a value": Case(
        f'<View><Image name="image" value="$scans[1].url"/>{_BRUSH}{_POINTS}</View>'
    ),
    "an address in parts": Case(
        f'<View><Image name="image" value="data:image/png;base64,$base64"/>{_BRUSH}{_POINTS}</View>'
    ),
    "aliases": Case(
        f"""<View><Image name="image" value="$image"/>{_POINTS}<BrushLabels name="mask"
        toName="image"><Label value="c" alias="Cell" html="&lt;b&gt;Cell&lt;/b&gt;"/><Label
        value="d" predicted_values="junk, Debris"/></BrushLabels></View>""",
        said="c",
    ),
    "labels from the task": Case(
        """<View><Image name="image" value="$image"/><KeyPointLabels name="kp" toName="image"
        value="$labels"/><BrushLabels name="mask" toName="image" value="$labels"/></View>""",
    ),
    "a label list from the task": Case(
        """<View><Image name="image" value="$image"/><Labels name="lab" toName="image"
        value="$labels"/><KeyPoint name="kp" toName="image"/><Brush name="mask" toName="image"/>
        </View>""",
        answer=_SHARED,
    ),
    "names of any script": Case(
        """<View><Image name="Bild 1" value="$image"/>
        <KeyPointLabels name="点 α" toName="Bild 1"><Label value="Zelle ü"/></KeyPointLabels>
        <BrushLabels name="маска" toName="Bild 1"><Label value="Zelle ü"/></BrushLabels></View>""",
        point="点 α",
        to_name="Bild 1",
        label="Zelle ü",
        answer=("brushlabels маска",),
        said="Zelle ü",
    ),
    "other data beside": Case(
        f"""<View><Text name="text" value="$text"/><Labels name="ner" toName="text"><Label
        value="Person"/></Labels><Image name="image" value="$image"/><Number name="n"
        toName="image"/><DateTime name="dt" toName="image"/><Taxonomy name="t" toName="image">
        <Choice value="a"><Choice value="b"/></Choice></Taxonomy><BitmaskLabels name="mask"
        toName="image"><Label value="Cell"/></BitmaskLabels>{_POINTS}<Relations>
        <Relation value="is"/></Relations></View>""",
        answer=("bitmasklabels mask",),
    ),
    "comments and tools of no use": Case(
        f"""<!-- ours {{"a": 1}} --><View><Image name="image" value="$image"/><!-- <BrushLabels
        name="old" toName="image"/> --><VectorLabels name="v" toName="image"><Label value="Cell"/>
        </VectorLabels><MagicWand name="w" toName="image"/><PolygonLabels name="mask"
        toName="image" strokeWidth="3"><Label value="Cell"/></PolygonLabels>{_POINTS}</View>""",
        answer=("polygonlabels mask",),
    ),
    "a mask tag for each class": Case(
        f"""<View><Image name="image" value="$image"/><BrushLabels name="nuclei" toName="image">
        <Label value="Nucleus"/></BrushLabels>{_BRUSH}{_POINTS}</View>"""
    ),
}
