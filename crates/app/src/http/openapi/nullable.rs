//! Null, where HTTP has none: what may be null in Rust may be left out there.

use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{RefOr, Schema, Type};

/// Takes null out of what a schema allows, and says whether it was there.
pub(super) fn take_null(schema: &mut RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => take_type(&mut object.schema_type),
        RefOr::T(Schema::Array(array)) => take_type(&mut array.schema_type),
        RefOr::T(Schema::OneOf(one_of)) => {
            let before = one_of.items.len();
            one_of.items.retain(|item| !is_null(item));
            let is_taken = one_of.items.len() < before;
            if let [only] = one_of.items.as_slice() {
                *schema = only.clone();
            }
            is_taken
        }
        _ => false,
    }
}

fn take_type(schema_type: &mut SchemaType) -> bool {
    let SchemaType::Array(types) = schema_type else {
        return false;
    };
    let before = types.len();
    types.retain(|one| *one != Type::Null);
    let is_taken = types.len() < before;
    if let [only] = types.as_slice() {
        *schema_type = SchemaType::Type(only.clone());
    }
    is_taken
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}
