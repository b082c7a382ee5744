"""METHODS: every way of grading, in the order of the tables. A new method is one module and one line here; its key is its module's name."""

from clipdr.methods.ats import Ats
from clipdr.methods.cabnet import CabNet
from clipdr.methods.clip_dr import ClipDr
from clipdr.methods.clip_dr_plus import ClipDrPlus
from clipdr.methods.clip_finetune import ClipFinetune
from clipdr.methods.coop import CoOp
from clipdr.methods.coop_lvt import CoOpLvt
from clipdr.methods.corn import Corn
from clipdr.methods.ddaig import Ddaig
from clipdr.methods.drgen import DrGen
from clipdr.methods.erm import Erm
from clipdr.methods.fishr import Fishr
from clipdr.methods.gdrnet import GdrNet
from clipdr.methods.green import Green
from clipdr.methods.linear_probe import LinearProbe
from clipdr.methods.majority import Majority
from clipdr.methods.mdlt import Mdlt
from clipdr.methods.mixstyle import MixStyle
from clipdr.methods.mixup import Mixup
from clipdr.methods.ordinal_clip import OrdinalClip
from clipdr.methods.zero_shot import ZeroShot

METHODS = {
    "majority": Majority,
    "zero_shot": ZeroShot,
    "linear_probe": LinearProbe,
    "coop": CoOp,
    "erm": Erm,
    "mixup": Mixup,
    "mixstyle": MixStyle,
    "green": Green,
    "cabnet": CabNet,
    "ddaig": Ddaig,
    "ats": Ats,
    "fishr": Fishr,
    "mdlt": Mdlt,
    "drgen": DrGen,
    "gdrnet": GdrNet,
    "corn": Corn,
    "clip_finetune": ClipFinetune,
    "coop_lvt": CoOpLvt,
    "ordinal_clip": OrdinalClip,
    "clip_dr": ClipDr,
    "clip_dr_plus": ClipDrPlus,
}
