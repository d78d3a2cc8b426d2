//! Hand-written SQL that is prepared once per connection.
//!
//! Diesel's own `sql_query` is prepared anew each time, which costs a round trip; its query builder cannot write a merge
//! of two ordered branches or call a function that returns a table.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};

/// A constant SQL text with its values, kept in the connection's cache of prepared statements.
///
/// `$1` is the first value bound, and may stand in the text several times. Rows are read by name
/// (`diesel::QueryableByName`).
pub(crate) struct Statement {
    sql: &'static str,
    values: Vec<Box<dyn QueryFragment<Pg> + Send>>,
}

impl Statement {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self {
            sql,
            values: Vec::new(),
        }
    }

    /// The text.
    pub(crate) fn sql(&self) -> &'static str {
        self.sql
    }

    /// Adds a value as SQL type `T`.
    pub(crate) fn bind<T, U>(mut self, value: U) -> Self
    where
        T: Send + 'static,
        U: ToSql<T, Pg> + Send + 'static,
        Pg: HasSqlType<T>,
    {
        self.values.push(Box::new(Value {
            value,
            sql_type: std::marker::PhantomData::<T>,
        }));
        self
    }
}

impl Query for Statement {
    type SqlType = Untyped;
}

/// No static id: the cache goes by the text, which is a constant.
impl QueryId for Statement {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for Statement {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut pieces = self.sql.split('$');
        if let Some(first) = pieces.next() {
            out.push_sql(first);
        }
        for piece in pieces {
            let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
            let (number, text) = piece.split_at(digits);
            let value = number
                .parse::<usize>()
                .ok()
                .and_then(|number| number.checked_sub(1))
                .and_then(|index| self.values.get(index))
                .ok_or_else(|| {
                    diesel::result::Error::QueryBuilderError(
                        format!("no value is bound to ${number}").into(),
                    )
                })?;
            value.walk_ast(out.reborrow())?;
            out.push_sql(text);
        }
        Ok(())
    }
}

struct Value<T, U> {
    value: U,
    sql_type: std::marker::PhantomData<T>,
}

impl<T, U> QueryFragment<Pg> for Value<T, U>
where
    U: ToSql<T, Pg>,
    Pg: HasSqlType<T>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<T, U>(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diesel::sql_types::{Integer, Text};

    #[test]
    fn a_value_may_stand_in_the_text_twice() {
        let statement = Statement::new("select $2, $1, $2::int")
            .bind::<Text, _>("a")
            .bind::<Integer, _>(7);

        assert_eq!(
            diesel::debug_query::<Pg, _>(&statement).to_string(),
            r#"select $1, $2, $3::int -- binds: [7, "a", 7]"#
        );
    }

    #[test]
    fn a_number_without_a_value_is_an_error() {
        use diesel::query_builder::QueryBuilder as _;

        let statement = Statement::new("select $1");
        let mut builder = diesel::pg::PgQueryBuilder::default();

        statement.to_sql(&mut builder, &Pg).unwrap_err();
        assert_eq!(builder.finish(), "select ");
    }
}
