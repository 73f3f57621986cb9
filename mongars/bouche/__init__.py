"""Bouche (mouth): how an answer is shown: markdown as safe HTML, whole or block by block."""

from mongars.bouche.blocks import Block, BlockRenderer
from mongars.bouche.markdown import render

__all__ = ["Block", "BlockRenderer", "render"]
