"""Shapes of tensors by name: the one home of the aliases that several modules share.

A name in the plural has a batch axis, a name in the singular has none. ``_`` is an axis of any length that nothing else
is compared with.
"""

from jaxtyping import Bool, Float
from torch import Tensor

#: One image, in [0, 1] unless said otherwise.
Image = Float[Tensor, "channel height width"]
#: One image whose sides are not compared with those of another.
AnySizeImage = Float[Tensor, "channel _ _"]
#: Images of one size, or one value per pixel and channel of each.
Images = Float[Tensor, "batch channel height width"]
#: One value per pixel of an image.
Map = Float[Tensor, "height width"]
#: One value per pixel of each image.
Maps = Float[Tensor, "batch height width"]
#: One truth value per pixel of an image.
Mask = Bool[Tensor, "height width"]
#: One truth value per pixel of each image.
Masks = Bool[Tensor, "batch height width"]
#: Matrices, one for each index of the axes in front.
Matrices = Float[Tensor, "*batch height width"]
#: A: one row per row of the image, one column per rank-one part.
LeftFactor = Float[Tensor, "batch channel height rank"]
#: B: one row per column of the image, one column per rank-one part.
RightFactor = Float[Tensor, "batch channel width rank"]
#: One value per column of A and B.
ColumnPrecision = Float[Tensor, "batch channel rank"]
#: One value per pixel, or one for all pixels of a channel.
NoisePrecision = Float[Tensor, "batch channel #height #width"]
#: One value per image of a batch.
PerSample = Float[Tensor, " batch"]
#: A single value.
Scalar = Float[Tensor, ""]
