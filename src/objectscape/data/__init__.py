"""Every data set. `objectscape.data.<tab>` shows them; each is imported on first use."""

from __future__ import annotations

from objectscape.lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "APC": "objectscape.data.apc",
        "AtariFolder": "objectscape.data.atari.original",
        "AtariRecording": "objectscape.data.atari.record",
        "AtariStacks": "objectscape.data.atari.stacks",
        "BlockStacking": "objectscape.data.synthetic.block_stacking",
        "ClevrLike": "objectscape.data.synthetic.clevr_like",
        "ClevrTex": "objectscape.data.clevrtex",
        "ClevrTexLike": "objectscape.data.synthetic.clevrtex_like",
        "ColoredShapes": "objectscape.data.synthetic.shapes",
        "EfficientMORLArchive": "objectscape.data.emorl_h5",
        "GQN": "objectscape.data.gqn",
        "HDF5Scenes": "objectscape.data.formats.hdf5",
        "ImageFolder": "objectscape.data.folder",
        "JointStacks": "objectscape.data.atari.joint",
        "Latents": "objectscape.data.latents",
        "MovingShapes": "objectscape.data.synthetic.moving_shapes",
        "MovingSprites": "objectscape.data.synthetic.moving_sprites",
        "MultiDSprites": "objectscape.data.synthetic.multi_dsprites",
        "MultiObject": "objectscape.data.multi_object",
        "ObjectsRoomLike": "objectscape.data.synthetic.objects_room_like",
        "ResizedSynthetic": "objectscape.data.resizing",
        "RobotVideos": "objectscape.data.robot_videos",
        "Rooms3D": "objectscape.data.rooms3d",
        "RoomsRingCameraLike": "objectscape.data.synthetic.rooms_ring_camera_like",
        "SceneDataset": "objectscape.data.dataset",
        "ShapeStacks": "objectscape.data.shapestacks",
        "ShapeStacksLike": "objectscape.data.synthetic.shapestacks_like",
        "SimpleShapes": "objectscape.data.synthetic.simple_shapes",
        "SimpleShapesFolder": "objectscape.data.simple_shapes",
        "SimpleShapesScenes": "objectscape.data.synthetic.simple_shapes_scenes",
        "Sketchy": "objectscape.data.sketchy",
        "SyntheticScenes": "objectscape.data.synthetic.base",
        "Tetrominoes": "objectscape.data.synthetic.tetrominoes",
        "VideoArchive": "objectscape.data.video_h5",
        "VideoRecording": "objectscape.data.atari.video",
        "build_data": "objectscape.data.building",
    },
)
