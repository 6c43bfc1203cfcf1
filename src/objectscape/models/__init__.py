"""Every model. `objectscape.models.<tab>` shows them; each is imported on first use."""

from __future__ import annotations

from objectscape.lazy import lazy

__getattr__, __dir__ = lazy(
    __name__,
    {
        "AttributeVAE": "objectscape.models.domains.attributes",
        "Attributes": "objectscape.models.domains.attributes",
        "ColoringAutoencoder": "objectscape.models.instance_coloring",
        "Domain": "objectscape.models.domains.domain",
        "EfficientMORL": "objectscape.models.efficientmorl",
        "FramedSlots": "objectscape.models.framed_slots",
        "Genesis": "objectscape.models.genesis",
        "GenesisS": "objectscape.models.genesis_s",
        "GenesisV2": "objectscape.models.genesis_v2",
        "GlobalWorkspace": "objectscape.models.global_workspace",
        "IODINE": "objectscape.models.iodine",
        "InvariantSlotAttention": "objectscape.models.isa",
        "MONet": "objectscape.models.monet",
        "OP3": "objectscape.models.op3",
        "SAVi": "objectscape.models.savi",
        "SSWM": "objectscape.models.sswm",
        "SavedLatents": "objectscape.models.domains.latents",
        "SlotAttentionMOC": "objectscape.models.slot_attention_moc",
        "SlotAttentionModel": "objectscape.models.slot_attention",
        "SlotFormer": "objectscape.models.slotformer",
        "Space": "objectscape.models.space",
        "SpaceTime": "objectscape.models.space_time",
        "Text": "objectscape.models.domains.text",
        "TextGRU": "objectscape.models.domains.text_gru",
        "TextVAE": "objectscape.models.domains.text_vae",
        "VAE": "objectscape.models.vae",
        "VRNN": "objectscape.models.vrnn",
        "VisualVAE": "objectscape.models.domains.visual_vae",
    },
)
