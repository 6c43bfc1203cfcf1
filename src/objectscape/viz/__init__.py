"""Pictures: what a model makes of a scene, what a data set holds, how training went.

Everything here knows `Scene` and `Decomposition` only. Matplotlib, Pillow and imageio are imported by the functions
that need them, so importing this package costs no more than torch.
"""

from objectscape.viz.animation import clip_frames, decomposition_video, save_animation, titled_frames, training_progress
from objectscape.viz.captions import caption_figure, caption_frames
from objectscape.viz.detections import detections_figure, detections_video, latent_map_figure, latent_map_page
from objectscape.viz.edits import Traversal, interpolation_figure, swap_figure, traversal_figure, traversal_frames
from objectscape.viz.figures import construction_figure, dataset_figure, decomposition_figure, samples_figure
from objectscape.viz.files import load_image, save_figure, save_image
from objectscape.viz.futures import futures_video
from objectscape.viz.learning import learning_curves
from objectscape.viz.matching import colors_of_slots
from objectscape.viz.palette import SLOT_COLORS, color_masks, color_segments, color_slots, slot_colors
from objectscape.viz.stages import refinement_figure, refinement_frames
from objectscape.viz.tiles import decomposition_array

__all__ = [
    "SLOT_COLORS",
    "Traversal",
    "caption_figure",
    "caption_frames",
    "clip_frames",
    "color_masks",
    "color_segments",
    "color_slots",
    "colors_of_slots",
    "construction_figure",
    "dataset_figure",
    "decomposition_array",
    "decomposition_figure",
    "decomposition_video",
    "detections_figure",
    "detections_video",
    "futures_video",
    "interpolation_figure",
    "latent_map_figure",
    "latent_map_page",
    "learning_curves",
    "load_image",
    "refinement_figure",
    "refinement_frames",
    "samples_figure",
    "save_animation",
    "save_figure",
    "save_image",
    "slot_colors",
    "swap_figure",
    "titled_frames",
    "training_progress",
    "traversal_figure",
    "traversal_frames",
]
