"""Reads: what happened and what is, per project, as lists of JSON items."""

from __future__ import annotations

from fastapi import APIRouter

from api.reads import buckets, lists, views

router = APIRouter()
# Buckets first: /v1/payments/hourly is no payment's id.
router.include_router(buckets.router)
router.include_router(lists.router)
router.include_router(views.router)
